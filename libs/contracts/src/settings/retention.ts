import type { Settings } from './settings.types';

/** How long, how many, and in how much memory ended executions are kept: the first bound that is reached applies. */
export interface Retention {
  readonly retentionMs: number;
  /** At most this many ended executions are kept; absent: any number. */
  readonly maxEnded?: number;
  /** The bound on the memory of the state on one server; absent: nine tenths of its maxmemory. Bytes. */
  readonly maxStateBytes?: number;
}

export function retentionOf({ retentionMs, maxEnded, maxStateMb }: Settings): Retention {
  return {
    retentionMs,
    maxEnded,
    ...(maxStateMb === undefined ? {} : { maxStateBytes: maxStateMb * 1024 * 1024 }),
  };
}
