import type { Server } from '#libs/valkey';

/** Counts the commands of this connection until it is asked: each is a round trip of its own. */
export function countCommands(redis: Server): () => number {
  const send: (...args: never[]) => unknown = redis.sendCommand;
  let sent = 0;
  redis.sendCommand = function (...args: never[]) {
    sent++;
    return send.apply(redis, args);
  };
  return () => {
    redis.sendCommand = send;
    return sent;
  };
}

/** Counts script calls as the server does. */
export async function countScripts(redis: Server): Promise<() => Promise<number>> {
  const read = async (): Promise<number> => {
    const text = await redis.info('commandstats');
    return ['eval', 'evalsha'].reduce(
      (sum, name) => sum + Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(text)?.[1] ?? 0),
      0,
    );
  };
  const before = await read();
  return async () => (await read()) - before;
}

/** No shorter command is listed: the longest of thousands is far above. Microseconds. */
const SLOWLOG_FROM = 100;

/** The longest command, and the longest script, that the server ran during `work`. Milliseconds. */
export async function longestStep(
  redis: Server,
  work: () => Promise<unknown>,
): Promise<{ commandMs: number; scriptMs: number }> {
  await redis.config('SET', 'slowlog-log-slower-than', SLOWLOG_FROM);
  await redis.config('SET', 'slowlog-max-len', 100_000);
  await redis.slowlog('RESET');
  await work();
  await redis.config('SET', 'slowlog-log-slower-than', -1);
  const rows = (await redis.slowlog('GET', -1)) as [number, number, number, string[]][];
  await redis.slowlog('RESET');
  const longest = (only: (name: string) => boolean): number =>
    rows
      .filter(([, , , [name = '']]) => only(name.toLowerCase()))
      .reduce((most, [, , micros]) => Math.max(most, micros), SLOWLOG_FROM) / 1_000;
  return { commandMs: longest(() => true), scriptMs: longest((name) => name.startsWith('eval')) };
}
