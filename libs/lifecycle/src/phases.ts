import { within } from '#libs/valkey';

/** The trouble of a phase: it took longer than its bound, or failed. */
export type PhaseTrouble = { readonly boundMs: number } | { readonly error: unknown };

/**
 * Ends something in named phases, one after the other, each bounded (requirement R47). A phase that fails or is stuck is named and
 * left behind: the ones after it are done all the same.
 */
export class Phases {
  private readonly left: string[] = [];
  private now: string | undefined;

  constructor(private readonly onTrouble: (phase: string, trouble: PhaseTrouble) => void) {}

  /** The phase under way: what an overall deadline that strikes has to name. */
  get current(): string | undefined {
    return this.now;
  }

  /** Phases that failed or were left behind. */
  get unfinished(): readonly string[] {
    return this.left;
  }

  /** Whether it ended by itself within `boundMs`. Never rejects. */
  async run(name: string, boundMs: number, work: () => Promise<unknown>): Promise<boolean> {
    this.now = name;
    // A function that throws before it gives a promise fails like one that rejects.
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
