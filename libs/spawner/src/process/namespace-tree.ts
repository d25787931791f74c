import type { SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import { findDescendants } from './descendants';
import { findInit } from './namespace';
import { findAlive, type PidStart, type ProcStat } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { signalProcess } from './signal-process';
import { StopRecord } from './stop-record';

/** The report of init comes before the command begins. A busy worker may read it later than the exit event. Milliseconds. */
const REPORT_WAIT_MS = 1_000;
/** The kernel ends all processes of the namespace before init has ended. One in state D takes longer. Milliseconds. */
const END_WAIT_MS = 500;
const LONGEST_PAUSE_MS = 20;
/** After init was killed, the first process has this long to end by itself: it reaps the command, which init waits for. */
const FOLLOW_MS = 1_000;

/** The parts of a tree in a PID namespace. */
export interface NamespaceTreeParts {
  /** Signals the processes as they are seen from outside: by group, descent and marks. */
  readonly inner: ProcessTree;
  readonly libc: Libc | undefined;
}

/**
 * Containment by a PID namespace of its own (namespace.ts). The first process is outside, and starts init and the command inside.
 * No process leaves its PID namespace, and orphans inside become children of init. So once the first process has ended by itself,
 * every process of the tree is below init; and once init has ended, there is none. The proof needs the identity of init alone, and
 * no libc. If a signal ended the first process, the command may live as an orphan outside of init's descendants: then `inner` looks
 * for it, so that it is asked to end before init is killed.
 *
 * Init was never reported when the start ended before anything of the spec ran. Then nothing needs a grace, and `inner` gives the
 * proof.
 */
export class NamespaceTree implements ProcessTree {
  readonly containment = 'namespace';
  readonly #parts: NamespaceTreeParts;
  #init: PidStart | undefined;
  #isReported = false;
  #resolveReported: () => void = () => undefined;
  /** Resolves when init is known, or will never be. */
  readonly #reported: Promise<void>;
  /** The first process may have ended before the command, which is an orphan then: no child of init. */
  #endedBySignal = false;
  /** A pass has looked for such an orphan. */
  #hasLooked = false;
  /** By `performance.now()`, when init was first sent SIGKILL for a stop. */
  #killedAt: number | undefined;

  constructor(parts: NamespaceTreeParts) {
    this.#parts = parts;
    this.#reported = new Promise((resolve) => (this.#resolveReported = resolve));
  }

  get leader(): PidStart {
    return this.#parts.inner.leader;
  }

  /** Takes the report of the shell that started init. @param init undefined: there is none. */
  begun(init: PidStart | undefined): void {
    this.#init ??= init;
    this.#isReported = true;
    this.#resolveReported();
  }

  markReaped(signal?: NodeJS.Signals | null): void {
    this.#endedBySignal = typeof signal === 'string';
    this.#parts.inner.markReaped();
  }

  terminate(record: StopRecord): void {
    this.#parts.inner.terminate(record);
  }

  terminateFound(record: StopRecord): void {
    this.#parts.inner.terminateFound(record);
  }

  kill(record: StopRecord): void {
    // A stop may come before the report was read.
    this.#init ??= findInit(this.leader);
    const init = this.#init;
    const now = performance.now();
    const isLate = this.#killedAt !== undefined && now - this.#killedAt > FOLLOW_MS;
    if (init !== undefined) {
      if (this.#killedAt === undefined) for (const process of this.#known()) record.saw(process);
      this.#killedAt ??= now;
      if (signalProcess(init, 'SIGKILL', this.#parts.libc)) record.sent('SIGKILL', 'namespace', init.pid);
      // A stopped first process would not reap the command.
      signalProcess(this.leader, 'SIGCONT', this.#parts.libc);
    }
    if (init === undefined || isLate) this.#parts.inner.kill(record);
  }

  search(record: StopRecord): Promise<void> {
    return this.#parts.inner.search(record);
  }

  quiet(): boolean {
    const hasEnded = findAlive(this.leader) === undefined;
    if (this.#init === undefined) return (hasEnded && this.#isReported) || this.#parts.inner.quiet();
    if (!hasEnded || this.#below(this.#init).length > 0) return false;
    return !this.#hasLooked || this.#known().length === 0;
  }

  async proveEmpty(record: StopRecord, deep: boolean): Promise<boolean> {
    await this.#untilReported();
    const init = this.#init;
    if (init === undefined) {
      const hasEnded = findAlive(this.leader) === undefined;
      // Of no interest to the report: these are processes of Belay's own.
      if (hasEnded && this.#isReported) this.#parts.inner.kill(new StopRecord(this.containment));
      return this.#parts.inner.proveEmpty(record, deep);
    }
    if (this.#endedBySignal && !this.#hasLooked) {
      await this.#parts.inner.search(record);
      this.#hasLooked = true;
    }
    if (!this.quiet()) {
      // The next signals reach the processes that a pass has found.
      await this.#parts.inner.search(record);
      return false;
    }
    if (!(await this.#hasEnded(init))) return false;
    record.proof(
      'namespace-ended',
      `the init of its PID namespace (process ${init.pid}, start time ${init.startTime}) ended, and the kernel had ended every process inside`,
    );
    return true;
  }

  onChange(callback: () => void): () => void {
    return this.#parts.inner.onChange(callback);
  }

  freeze(): Promise<void> {
    return this.#parts.inner.freeze();
  }

  thaw(): void {
    this.#parts.inner.thaw();
  }

  processes(): SeenProcess[] {
    return this.#known().map(toSeen);
  }

  dispose(): boolean | Promise<boolean> {
    return this.#parts.inner.dispose();
  }

  /** The live processes without init, which runs nothing of the agent's. */
  #known(): SeenProcess[] {
    const init = this.#init;
    const known = this.#parts.inner.processes();
    if (init === undefined) return known;
    const all = new Map([...known, ...this.#below(init)].map((process) => [process.pid, process]));
    all.delete(init.pid);
    return [...all.values()];
  }

  #below(init: PidStart): ProcStat[] {
    const alive = findAlive(init);
    return alive === undefined ? [] : findDescendants([alive]);
  }

  async #untilReported(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise((resolve) => (timer = setTimeout(resolve, REPORT_WAIT_MS)));
    await Promise.race([this.#reported, bound]);
    clearTimeout(timer);
  }

  /** Kills init, which has nothing left to wait for, and looks until it has ended. A zombie has ended. */
  async #hasEnded(init: PidStart): Promise<boolean> {
    const giveUpAt = performance.now() + END_WAIT_MS;
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      if (findAlive(init) === undefined) return true;
      signalProcess(init, 'SIGKILL', this.#parts.libc);
      if (performance.now() > giveUpAt) return false;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}
