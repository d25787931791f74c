import type { ScopeOptions } from '../arguments/scope-options';

/** The options of `belay kill`. */
export interface KillOptions extends ScopeOptions {
  readonly local?: boolean;
  readonly dryRun?: boolean;
  readonly now?: boolean;
  readonly grace?: number;
  readonly note?: string;
  readonly yes?: boolean;
  readonly releaseNeeds?: number;
  /** False with `--no-latch`. */
  readonly latch: boolean;
  /** False with `--no-wait`. */
  readonly wait: boolean;
  readonly full?: boolean;
}
