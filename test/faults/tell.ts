import { Redis } from 'ioredis';

const ANSWER_MS = 500;

/** A server's address. */
export type Place = { readonly path: string } | { readonly host: string; readonly port: number };

/** One command on a connection of its own. @throws the server's error, or the connection's */
export async function ask(place: Place, [command = '', ...args]: readonly string[]): Promise<unknown> {
  const redis = new Redis({
    ...place,
    lazyConnect: true,
    retryStrategy: () => null,
    connectTimeout: ANSWER_MS,
    commandTimeout: ANSWER_MS,
    enableReadyCheck: false,
    maxRetriesPerRequest: 0,
  });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return await redis.call(command, ...args);
  } finally {
    redis.disconnect();
  }
}

/** False: the server was dead, or refused. */
export async function tell(place: Place, command: readonly string[]): Promise<boolean> {
  return ask(place, command).then(
    () => true,
    () => false,
  );
}
