import type { Isolation } from './process-host.types';
import type { ProcessTree } from './process-tree';
import { StopRecord } from './stop-record';
import type { TimeSliceQueue } from './time-slice-queue';

/** After a natural end the rest of the tree gets at most this long between SIGTERM and SIGKILL. */
const LEFTOVER_GRACE_MS = 2_000;
const FIRST_POLL_MS = 2;
/** A tree that obeys has ended by then; an immediate look through /proc would only delay the result. */
const LOOK_AFTER_MS = 40;
const LONGEST_POLL_MS = 50;
const FIRST_KILL_ROUND_MS = 5;
const LONGEST_KILL_ROUND_MS = 250;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;

export interface EndTreeOptions {
  /** `natural`: the first process exited by itself. */
  readonly cause: 'natural' | 'graceful' | 'immediate';
  readonly graceMs: number;
  /** SIGKILL rounds go on for this long before the answer is "not proved". */
  readonly killWaitMs: number;
  /** For the report. */
  readonly isolation?: Isolation;
}

/**
 * The ladder: SIGTERM (with SIGCONT) → grace → SIGKILL rounds → proof, for one tree (docs/process-signals.md#the-steps-of-a-stop). All
 * waits are bounded: `run` resolves after the grace, `killWaitMs`, and at most one more pass over /proc.
 */
export class TreeEnding {
  readonly record: StopRecord;
  /** Processes that outlived the first one at a natural end. */
  leftovers = 0;
  #killAt: number;
  #reaped = false;
  #wake: (() => void) | undefined;
  #woken = false;
  #unwatch: (() => void) | undefined;
  #closed = false;

  constructor(
    private readonly tree: ProcessTree,
    private readonly options: EndTreeOptions,
    private readonly turns: TimeSliceQueue,
  ) {
    this.record = new StopRecord(tree.containment, options.isolation);
    this.record.saw(tree.leader);
    this.#killAt = performance.now() + (options.cause === 'immediate' ? 0 : options.graceMs);
  }

  /** Tells that the first process exited and was reaped. Called once; before `run` if it has already happened. */
  firstProcessExited(): void {
    this.#reaped = true;
    this.record.exited();
    this.record.proof('exit', 'the first process exited');
    this.#notify();
  }

  /** Brings SIGKILL forward, and never delays it. */
  shorten(graceMs: number): void {
    this.#killAt = Math.min(this.#killAt, performance.now() + graceMs);
    this.#notify();
  }

  /** @returns whether the whole tree was seen dead. Never rejects. */
  async run(): Promise<boolean> {
    try {
      const proved = await this.#climb();
      if (proved) this.record.proved();
      return proved;
    } finally {
      this.#unwatch?.();
      this.#unwatch = undefined;
    }
  }

  /** Goes on killing and looking, ever more slowly, until the tree is proved dead or `close()`. */
  async keepTrying(): Promise<boolean> {
    let pauseMs = FIRST_RETRY_MS;
    for (;;) {
      await this.#sleep(pauseMs, true);
      if (this.#closed) return false;
      await this.#try(() => this.tree.kill(this.record));
      await this.#search();
      if ((await this.#isQuiet()) && (await this.#prove())) {
        this.record.proved();
        return true;
      }
      pauseMs = Math.min(pauseMs * 2, LONGEST_RETRY_MS);
    }
  }

  close(): void {
    this.#closed = true;
    this.#notify();
  }

  async #climb(): Promise<boolean> {
    if (this.options.cause === 'natural') {
      if ((await this.#isQuiet()) && (await this.#prove())) return true;
      this.leftovers = (await this.#try(() => this.tree.processes().length)) ?? 0;
      this.shorten(LEFTOVER_GRACE_MS);
    }
    if (performance.now() < this.#killAt && (await this.#askAndWait())) return true;
    return this.#killRounds();
  }

  async #askAndWait(): Promise<boolean> {
    await this.#try(() => this.tree.terminate(this.record));
    // Runs beside the wait: processes that left the group or cgroup get their SIGTERM as soon as the search finds them.
    let asked: Promise<unknown> = Promise.resolve();
    const look = setTimeout(() => {
      asked = this.#askFound();
    }, LOOK_AFTER_MS);
    try {
      while (performance.now() < this.#killAt) {
        if (!(await this.#untilQuiet(() => this.#killAt))) continue;
        if (await this.#prove()) return true;
        await this.#try(() => this.tree.terminateFound(this.record));
        await this.#sleep(FIRST_POLL_MS);
      }
      return false;
    } finally {
      clearTimeout(look);
      await asked;
    }
  }

  async #askFound(): Promise<void> {
    await this.#search();
    await this.#try(() => this.tree.terminateFound(this.record));
  }

  async #killRounds(): Promise<boolean> {
    const giveUpAt = performance.now() + this.options.killWaitMs;
    for (let roundMs = FIRST_KILL_ROUND_MS; ; roundMs = Math.min(roundMs * 2, LONGEST_KILL_ROUND_MS)) {
      await this.#try(() => this.tree.kill(this.record));
      const roundEnd = Math.min(performance.now() + roundMs, giveUpAt);
      if ((await this.#untilQuiet(() => roundEnd)) && (await this.#prove())) return true;
      if (performance.now() >= giveUpAt) return false;
      await this.#search();
    }
  }

  async #untilQuiet(until: () => number): Promise<boolean> {
    for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(pollMs * 1.5, LONGEST_POLL_MS)) {
      if (await this.#isQuiet()) return true;
      const leftMs = until() - performance.now();
      if (leftMs <= 0) return false;
      // While the first process lives, its exit event ends the wait, so nothing is polled.
      if (this.#reaped) this.#unwatch ??= this.tree.onChange(() => this.#notify());
      await this.#sleep(this.#reaped ? Math.min(pollMs, leftMs) : leftMs);
    }
  }

  async #isQuiet(): Promise<boolean> {
    return this.#reaped && ((await this.#try(() => this.tree.quiet())) ?? false);
  }

  async #prove(): Promise<boolean> {
    try {
      return await this.tree.proveEmpty(this.record, this.options.cause !== 'natural' || this.leftovers > 0);
    } catch {
      return false; // could not look (out of file descriptors): the tree is not known to be dead
    }
  }

  async #search(): Promise<void> {
    await this.tree.search(this.record).catch(() => undefined);
  }

  /** A fault of the system while looking or signalling is no proof, and no reason to stop trying. */
  async #try<T>(action: () => T): Promise<T | undefined> {
    return this.turns.run(action).catch(() => undefined);
  }

  /** Ends the sleep under way, or the next one: a change between a look and the sleep must not be missed. */
  #notify(): void {
    if (this.#wake === undefined) this.#woken = true;
    else this.#wake();
  }

  #sleep(forMs: number, background = false): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#wake = undefined;
        this.#woken = false;
        resolve();
      };
      const timer = setTimeout(wake, forMs);
      if (background) timer.unref();
      this.#wake = wake;
      if (this.#woken) wake();
    });
  }
}
