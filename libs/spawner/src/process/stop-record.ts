import type { EvidenceKind, Evidence, SeenProcess, SentSignal, StopReport } from '#libs/contracts';
import type { Containment, Isolation } from './process-host.types';
import type { PidStart } from './proc-stat';

/** A fork loop shows thousands of processes; a report names the first of each list. */
const MAX_LISTED = 200;

/** Collects the acts and observations while one tree was ended. Times count from its making, by a monotonic clock. */
export class StopRecord {
  readonly #askedAt = performance.now();
  readonly #seen = new Map<string, SeenProcess>();
  readonly #signals: SentSignal[] = [];
  readonly #evidence: Evidence[] = [];
  #signalledAfterMs: number | undefined;
  #firstExitAfterMs: number | undefined;
  #provedAfterMs: number | undefined;
  escalated = false;

  constructor(
    private readonly containment: Containment,
    private readonly isolation?: Isolation,
  ) {}

  /** Milliseconds since the stop was asked for. */
  elapsedMs(): number {
    return Math.round((performance.now() - this.#askedAt) * 100) / 100;
  }

  saw(process: PidStart & { readonly command?: string }): void {
    const key = `${process.pid}:${process.startTime}`;
    const { pid, startTime, command } = process;
    // A process that is seen again may have become another program: a person looks for the last name.
    if (!this.#seen.has(key) && this.#seen.size >= MAX_LISTED) return;
    if (this.#seen.has(key) && command === undefined) return;
    this.#seen.set(key, { pid, startTime, ...(command === undefined ? {} : { command }) });
  }

  sent(signal: NodeJS.Signals, to: SentSignal['to'], pid?: number): void {
    const afterMs = this.elapsedMs();
    this.#signalledAfterMs ??= afterMs;
    if (signal === 'SIGKILL') this.escalated = true;
    if (this.#signals.length >= MAX_LISTED) return;
    this.#signals.push({ signal, to, afterMs, ...(pid === undefined ? {} : { pid }) });
  }

  exited(): void {
    this.#firstExitAfterMs ??= this.elapsedMs();
  }

  proof(kind: EvidenceKind, detail?: string): void {
    this.#evidence.push({ kind, afterMs: this.elapsedMs(), ...(detail === undefined ? {} : { detail }) });
  }

  kinds(): EvidenceKind[] {
    return this.#evidence.map(({ kind }) => kind);
  }

  proved(): void {
    this.#provedAfterMs ??= this.elapsedMs();
  }

  /** The present report; proved only after `proved()`. */
  report(survivors: readonly SeenProcess[]): StopReport {
    const at = this.#provedAfterMs;
    return {
      containment: this.containment,
      ...(this.isolation === undefined ? {} : { isolation: this.isolation }),
      proved: at !== undefined,
      processes: [...this.#seen.values()],
      signals: [...this.#signals],
      evidence: [...this.#evidence],
      survivors: at === undefined ? survivors.slice(0, MAX_LISTED) : [],
      escalated: this.escalated,
      ...(this.#signalledAfterMs === undefined ? {} : { signalledAfterMs: this.#signalledAfterMs }),
      ...(this.#firstExitAfterMs === undefined ? {} : { firstExitAfterMs: this.#firstExitAfterMs }),
      ...(at === undefined ? {} : { provedAfterMs: at }),
    };
  }
}
