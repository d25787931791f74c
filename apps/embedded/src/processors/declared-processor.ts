import type { NodeSpec } from '#libs/contracts';

export interface KillableProcessorOptions {
  /** Jobs that each instance of the application runs at a time. Default 1, as BullMQ's. */
  readonly concurrency?: number;
  /** Labels to kill by, beside `belay.queue` and `belay.job`. The same job must always get the same ones. */
  readonly labels?: (job: {
    readonly name: string;
    readonly data: unknown;
  }) => Readonly<Record<string, string>>;
  /** Longest for one attempt. Milliseconds. Default: none. */
  readonly timeoutMs?: number;
  /** Between SIGTERM and SIGKILL. Milliseconds. Default: the application's. */
  readonly graceMs?: number;
  /** Of the process tree of one job, where the containment can hold them. */
  readonly limits?: NodeSpec['limits'];
}

/** A processor as its class declares it. */
export interface DeclaredProcessor extends KillableProcessorOptions {
  readonly queue: string;
  readonly concurrency: number;
}
