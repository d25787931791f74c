import { within } from './within';

/** Why a phase did not end well: it took longer than its bound, or failed. */
export type PhaseTrouble = { readonly boundMs: number } | { readonly error: unknown };

/**
 * Ends something in named phases, one after the other, each with a bound. A phase that fails or hangs is named and
 * left behind, and the next phase runs all the same.
 */
export class Phases {
  private readonly left: string[] = [];
  private now: string | undefined;

  constructor(private readonly onTrouble: (phase: string, trouble: PhaseTrouble) => void) {}

  /** The phase that runs now. An overall deadline names it when it strikes. */
  get current(): string | undefined {
    return this.now;
  }

  /** Phases that failed or were left behind. */
  get unfinished(): readonly string[] {
    return this.left;
  }

  /** Resolves with whether the phase ended by itself within `boundMs`. Never rejects. */
  async run(name: string, boundMs: number, work: () => Promise<unknown>): Promise<boolean> {
    this.now = name;
    // `async` makes a synchronous throw a rejection.
    const done = (async () => work())().then(
      () => 'done' as const,
      (error: unknown) => ({ error }),
    );
    const end = (await within(done, boundMs)) ?? { boundMs };
    this.now = undefined;
    if (end === 'done') return true;
    this.left.push(name);
    this.onTrouble(name, end);
    return false;
  }
}
