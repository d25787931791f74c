import { createServer, type Server as NetServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Connections } from './connection';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { until } from '../../../test/support/wait';

/** A sentinel that answers a connection's commands, as late as the test wants. */
class FakeSentinel {
  /** While it is pending, no client is told where the primary is. */
  held: Promise<void> | undefined;
  asked = 0;
  private readonly listeners = new Set<Socket>();
  private readonly sockets = new Set<Socket>();
  private readonly servers: NetServer[] = [];

  constructor(private readonly primary: number) {}

  async listen(): Promise<number> {
    const server = createServer((socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.listeners.delete(socket)).on('error', () => undefined);
      socket.on('data', (data) => {
        for (const command of commandsIn(data.toString())) void this.answer(socket, command);
      });
    });
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  }

  get subscribers(): number {
    return this.listeners.size;
  }

  /** Announces, as a sentinel does, that another server is the primary now. */
  tellSwitch(): void {
    for (const socket of this.listeners)
      socket.write(`>3\r\n${['message', '+switch-master', 'test'].map(bulk).join('')}`);
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    for (const server of this.servers) server.close();
  }

  private async answer(socket: Socket, [name = '', what = '']: readonly string[]): Promise<void> {
    const command = `${name} ${what}`.toLowerCase();
    if (command.startsWith('hello')) socket.write(`%1\r\n${bulk('server')}${bulk('test')}`);
    else if (command.startsWith('subscribe')) {
      this.listeners.add(socket);
      socket.write(`>3\r\n${bulk('subscribe')}${bulk(what)}:1\r\n`);
    } else if (command === 'sentinel get-master-addr-by-name') {
      this.asked++;
      await this.held;
      socket.write(`*2\r\n${bulk('127.0.0.1')}${bulk(String(this.primary))}`);
    } else if (command === 'sentinel sentinels') socket.write('*0\r\n');
    else socket.write('+OK\r\n');
  }
}

const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;

/** Complete commands: a test's client writes each in one piece. */
function commandsIn(text: string): string[][] {
  return text
    .split(/(?=\*\d+\r\n\$)/)
    .map((part) => part.split('\r\n').filter((line, i) => i > 0 && line !== '' && !/^\$\d+$/.test(line)));
}

describe('a connection behind sentinels', () => {
  let server: ThrowawayServer;
  let sentinel: FakeSentinel;
  let connections: Connections;

  beforeEach(async () => {
    server = await startThrowawayServer({ listen: 'tcp' });
    sentinel = new FakeSentinel(Number(new URL(server.url).port));
    connections = new Connections(`redis+sentinel://127.0.0.1:${await sentinel.listen()}/mymaster`);
  });

  afterEach(async () => {
    connections.close();
    sentinel.close();
    await server.stop();
  });

  it.each(['state', 'blocking', 'subscriber'] as const)(
    'R25 comes back when a failover is told while it asks where the primary is (%s)',
    async (role) => {
      const redis = connections.create(role);
      await connections.ready(redis);
      await until(() => sentinel.subscribers === 1, 'its subscription');
      let letGo: () => void = () => undefined;
      sentinel.held = new Promise((resolve) => (letGo = resolve));
      const asked = sentinel.asked;
      // The primary dies and is replaced: the connection is lost first, and the sentinels tell a moment later.
      await server.kill9();
      await until(() => sentinel.asked > asked, 'its question for the primary');
      sentinel.tellSwitch();
      await server.restart();
      await until(() => sentinel.subscribers === 0, 'the end of its subscription');
      letGo();
      sentinel.held = undefined;
      await until(() => redis.status === 'ready', 'its way back');
      expect(await redis.ping()).toBe('PONG');
    },
  );

  it('R25 asks the next sentinel when one hangs with its connections open', async () => {
    const hung = new FakeSentinel(0);
    hung.held = new Promise(() => undefined);
    const both = [await hung.listen(), await sentinel.listen()].map((port) => `127.0.0.1:${port}`);
    const others = new Connections(`redis+sentinel://${both.join(',')}/mymaster`);
    try {
      const redis = others.create('state');
      await others.ready(redis, 20_000);
      expect(hung.asked).toBe(1);
    } finally {
      others.close();
      hung.close();
    }
  });
});
