import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Valkey } from '#libs/valkey';

/**
 * The least HTTP front of a remote kill, in a process of its own: takes the pids, writes a durable record with a message in one
 * step, and answers once every exit was reported. The kill benchmark starts it.
 */
async function main(url: string): Promise<void> {
  const valkey = new Valkey({ url, keyPrefix: 'bare', shards: 1 });
  const waiting = new Map<string, () => void>();
  const exits = valkey.connections.create('subscriber');
  exits.on('message', (_channel: string, pid: string) => waiting.get(pid)?.());
  await exits.subscribe('bare-exits');

  const kill = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const pids = JSON.parse(text) as number[];
    const reported = Promise.all(
      pids.map(async (pid) => {
        await new Promise<void>((resolve) => waiting.set(String(pid), resolve));
        waiting.delete(String(pid));
      }),
    );
    await valkey.redis
      .multi()
      .hset('bare:order', 'pids', text)
      .xadd('bare:orders', 'MAXLEN', '~', 1_000, '*', 'o', text)
      .publish('bare-doorbell', text)
      .exec();
    await reported;
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}');
  };
  const server = createServer((request, response) => {
    kill(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const end = (): void => {
    valkey.close();
    process.exit();
  };
  process.on('disconnect', end);
  process.on('SIGTERM', end);
  process.send?.({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

void main(process.argv[2] ?? '');
