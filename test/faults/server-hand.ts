import { Redis } from 'ioredis';
import type { FaultKind } from './plan-types';

const ANSWER_MS = 500;

/** Of what a server is told for a while: how it begins and how it ends. */
const ORDERS = {
  // A primary that is none any more: writes are answered with READONLY, what it holds stays.
  'server-readonly': { begin: ['REPLICAOF', '127.0.0.1', '1'], end: ['REPLICAOF', 'NO', 'ONE'] },
  // Its policy is noeviction: writes are answered with OOM.
  'server-full': { begin: ['CONFIG', 'SET', 'maxmemory', '1mb'], end: ['CONFIG', 'SET', 'maxmemory', '0'] },
  'server-paused': { begin: ['CLIENT', 'PAUSE'], end: undefined },
} as const satisfies Partial<Record<FaultKind, unknown>>;
export type ServerTrouble = keyof typeof ORDERS;

/** Tells the server itself, past every link. */
export class ServerHand {
  constructor(private readonly path: string) {}

  /** False: it could not be told, being dead itself. */
  async begin(kind: ServerTrouble, forMs: number): Promise<boolean> {
    const order = ORDERS[kind].begin;
    return this.#tell(kind === 'server-paused' ? [...order, String(forMs), 'ALL'] : order);
  }

  /** A server that was restarted meanwhile has forgotten it. */
  async end(kind: ServerTrouble): Promise<void> {
    const order = ORDERS[kind].end;
    if (order !== undefined) await this.#tell(order);
  }

  async #tell([command = '', ...args]: readonly string[]): Promise<boolean> {
    const redis = new Redis({
      path: this.path,
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
      await redis.call(command, ...args);
      return true;
    } catch {
      return false;
    } finally {
      redis.disconnect();
    }
  }
}
