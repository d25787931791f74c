import type { Settings } from './settings.types';

/** How long, how many, and in how much memory ended executions are kept: whichever bound is met first. */
export interface Retention {
  readonly retentionMs: number;
  /** Most ended executions; absent: any number. */
  readonly maxEnded?: number;
  /** Bound on the memory the state may take of a server; absent: nine tenths of its maxmemory. Bytes. */
  readonly maxStateBytes?: number;
}

export function retentionOf({ retentionMs, maxEnded, maxStateMb }: Settings): Retention {
  return {
    retentionMs,
    maxEnded,
    ...(maxStateMb === undefined ? {} : { maxStateBytes: maxStateMb * 1024 * 1024 }),
  };
}
