import { spawn, type ChildProcess } from 'node:child_process';
import { Valkey } from '#libs/valkey';

/**
 * The least remote kill: a process that owns bare children, signals those that a pub/sub message names, and reports each exit
 * durably. The kill benchmark starts it, sends the commands to run over IPC, and gets their pids.
 */
async function main(url: string): Promise<void> {
  const valkey = new Valkey({ url, keyPrefix: 'bare', shards: 1 });
  const children = new Map<number, ChildProcess>();
  const subscriber = valkey.connections.create('subscriber');
  subscriber.on('message', (_channel: string, message: string) => {
    for (const pid of JSON.parse(message) as number[]) if (children.has(pid)) process.kill(-pid, 'SIGTERM');
  });
  await subscriber.subscribe('bare-doorbell');
  const report = async (pid: number): Promise<void> => {
    await valkey.redis
      .multi()
      .hset('bare:order', `exit:${pid}`, Date.now())
      .publish('bare-exits', String(pid))
      .exec();
  };
  process.on('message', (commands: string[][]) => {
    const pids: number[] = [];
    for (const [file = '', ...args] of commands) {
      const child = spawn(file, args, { detached: true, stdio: 'ignore' });
      const { pid } = child;
      if (pid === undefined) continue;
      children.set(pid, child);
      child.once('exit', () => {
        children.delete(pid);
        void report(pid).catch(() => undefined);
      });
      pids.push(pid);
    }
    process.send?.(pids);
  });
  const end = (): void => {
    for (const child of children.values()) child.kill('SIGKILL');
    valkey.close();
    process.exit();
  };
  process.on('disconnect', end);
  process.on('SIGTERM', end);
  process.send?.('ready');
}

void main(process.argv[2] ?? '');
