import type { Grade } from '#libs/contracts';

/** The token of the worker's WorkerOptions. */
export const WORKER_OPTIONS = Symbol('belay.worker-options');

/** The token of the worker's ServiceLog. */
export const WORKER_LOG = Symbol('belay.worker-log');

export interface WorkerOptions {
  readonly workerId: string;
  readonly pools: readonly string[];
  /** The names of its handlers. */
  readonly handlers: readonly string[];
  /** Pools with slots of their own, beside `concurrency`. */
  readonly ownPools: ReadonlyMap<string, number>;
  readonly concurrency: number;
  readonly leaseTtlMs: number;
  readonly heartbeatMs: number;
  /** The silence, from the sending of the last acknowledged heartbeat, after which the worker stops its own agents. */
  readonly fenceAfterMs: number;
  readonly stopTimeoutMs: number;
  /** The grace of a drain. Milliseconds. */
  readonly graceMs: number;
  /** The grace of self-fencing, capped so that the fencing sum is met whatever grace a node has. Milliseconds. */
  readonly fenceGraceMs: number;
  /** The lowest grade of proof that counts in a kill without the server. */
  readonly proof: Grade;
  readonly dataDir: string;
}
