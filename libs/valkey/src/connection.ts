import { ServerUnreachableError } from '#libs/contracts';
import { Redis, type RedisOptions } from 'ioredis';

/** `state`: scripts and reads, calls fail fast. `subscriber`: pub/sub. `blocking`: BullMQ workers and blocking reads. */
export type ConnectionRole = 'state' | 'subscriber' | 'blocking';

const ROLE_OPTIONS: Record<ConnectionRole, RedisOptions> = {
  // A resent command may run twice; scripts can be repeated, but we decide when (docs/adr/0003).
  state: { maxRetriesPerRequest: 0, enableOfflineQueue: false },
  subscriber: { maxRetriesPerRequest: null },
  blocking: { maxRetriesPerRequest: null },
};

/** Turns `redis://…`, `rediss://…` or `unix:///path` into ioredis options. */
export function connectionOptions(url: string, role: ConnectionRole): RedisOptions {
  const shared: RedisOptions = {
    ...ROLE_OPTIONS[role],
    lazyConnect: true,
    connectTimeout: 5_000,
    retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 6), 2_000),
  };
  if (url.startsWith('unix://')) return { ...shared, path: url.slice('unix://'.length) };
  const parsed = new URL(url);
  return {
    ...shared,
    host: parsed.hostname,
    port: parsed.port === '' ? 6379 : Number(parsed.port),
    ...(parsed.username === '' ? {} : { username: decodeURIComponent(parsed.username) }),
    ...(parsed.password === '' ? {} : { password: decodeURIComponent(parsed.password) }),
    ...(parsed.pathname.length > 1 ? { db: Number(parsed.pathname.slice(1)) } : {}),
    ...(['rediss:', 'valkeys:'].includes(parsed.protocol) ? { tls: {} } : {}),
  };
}

/** A server's address without its secrets, for messages. */
export function describeUrl(url: string): string {
  if (url.startsWith('unix://')) return url;
  const parsed = new URL(url);
  return `${parsed.protocol}//${parsed.host}`;
}

/**
 * Opens connections to one server and closes them all again. Connection errors do not end the process: ioredis
 * reconnects with backoff, and `onTrouble` hears of it once per outage.
 */
export class Connections {
  private readonly open = new Set<Redis>();
  private troubled = false;

  constructor(
    readonly url: string,
    private readonly onTrouble: (message: string) => void = () => undefined,
  ) {}

  /** A new connection of that role; it connects in the background. */
  create(role: ConnectionRole): Redis {
    const redis = new Redis({ ...connectionOptions(this.url, role), replyMapping: 'legacy' });
    redis.on('error', (error: Error) => {
      if (this.troubled) return;
      this.troubled = true;
      this.onTrouble(`Valkey at ${describeUrl(this.url)} cannot be reached (${error.message}); trying again`);
    });
    redis.on('ready', () => {
      if (this.troubled) this.onTrouble(`Valkey at ${describeUrl(this.url)} is reachable again`);
      this.troubled = false;
    });
    this.open.add(redis);
    redis.once('end', () => this.open.delete(redis));
    redis.connect().catch(() => undefined);
    return redis;
  }

  /** Waits until `redis` answers, at most `timeoutMs`; then SERVER_UNREACHABLE. */
  async ready(redis: Redis, timeoutMs = 10_000): Promise<void> {
    if (redis.status === 'ready') return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        redis.off('ready', onReady);
        reject(new ServerUnreachableError(describeUrl(this.url)));
      }, timeoutMs);
      const onReady = (): void => {
        clearTimeout(timer);
        resolve();
      };
      redis.once('ready', onReady);
    });
  }

  /** Closes every connection; none reconnects. */
  close(): void {
    for (const redis of this.open) redis.disconnect();
    this.open.clear();
  }
}
