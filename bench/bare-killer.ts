import { spawn, type ChildProcess } from 'node:child_process';
import { Valkey } from '#libs/valkey';

/**
 * The least a remote kill can be: a process that owns bare `sleep` children and kills those a pub/sub message names.
 * Started by the kill benchmark; talks to it over IPC.
 */
async function main(url: string): Promise<void> {
  const valkey = new Valkey({ url, keyPrefix: 'bare', shards: 1 });
  const children = new Map<number, ChildProcess>();
  const subscriber = valkey.connections.create('subscriber');
  subscriber.on('message', (_channel: string, message: string) => {
    for (const pid of JSON.parse(message) as number[]) process.kill(-pid, 'SIGTERM');
  });
  await subscriber.subscribe('bare-doorbell');
  process.on('message', (count: number) => {
    const pids: number[] = [];
    for (let i = 0; i < count; i++) {
      const child = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' });
      const { pid } = child;
      if (pid === undefined) continue;
      children.set(pid, child);
      child.once('exit', () => children.delete(pid));
      pids.push(pid);
    }
    process.send?.(pids);
  });
  process.on('disconnect', () => {
    for (const child of children.values()) child.kill('SIGKILL');
    valkey.close();
  });
  process.send?.('ready');
}

void main(process.argv[2] ?? '');
