import type { SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import { Halt, untilStill } from './halt';
import { findAlive, type PidStart, type ProcStat } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { signalProcess } from './signal-process';
import type { StopRecord } from './stop-record';
import { killAllOf, lookForUser } from './uid-empty';
import type { UidSweeper } from './uid-sweep';

/** The parts of a tree with a user of its own. */
export interface UidTreeParts {
  readonly inner: ProcessTree;
  readonly uid: number;
  readonly sweeper: UidSweeper;
  readonly libc: Libc | undefined;
  /** Gives the user id back, once no process of it runs. */
  readonly giveBack: () => Promise<void>;
}

/**
 * A tree of which every process has a user id that no other tree has. No process of it can take another id, since it has no
 * capabilities and gains none by `exec` (no-new-privileges). `inner` contains it; processes that left that are found by their
 * user.
 */
export class UidTree implements ProcessTree {
  /** Processes of the user that `inner` does not know. */
  #strays: readonly ProcStat[] = [];
  readonly #asked = new Set<string>();
  #freezing = false;
  #isKilling = false;
  #isProved = false;
  #wasKilled = false;

  readonly #halt: Halt;

  constructor(private readonly parts: UidTreeParts) {
    this.#halt = new Halt(parts.libc);
  }

  get containment(): ProcessTree['containment'] {
    return this.parts.inner.containment;
  }

  get leader(): PidStart {
    return this.parts.inner.leader;
  }

  markReaped(): void {
    this.parts.inner.markReaped();
  }

  terminate(record: StopRecord): void {
    this.#freezing = false;
    this.parts.inner.terminate(record);
    this.#askStrays(record);
    this.#halt.release();
  }

  terminateFound(record: StopRecord): void {
    this.parts.inner.terminateFound(record);
    this.#askStrays(record);
  }

  kill(record: StopRecord): void {
    this.#isKilling = true;
    this.parts.inner.kill(record);
    for (const stray of this.#strays)
      if (this.#signal(stray, 'SIGKILL')) record.sent('SIGKILL', 'process', stray.pid);
  }

  async search(record: StopRecord): Promise<void> {
    // First when killing: the more forks there were, the longer the other step takes.
    if (this.#isKilling) await this.#endUser(record);
    await this.parts.inner.search(record);
    if (this.#isKilling) return;
    const sweep = await this.parts.sweeper.sweep();
    this.#take(sweep.of(this.parts.uid), record);
  }

  quiet(): boolean {
    return this.parts.inner.quiet() && this.#strays.every((stray) => findAlive(stray) === undefined);
  }

  async proveEmpty(record: StopRecord, deep: boolean): Promise<boolean> {
    // Once the user has no process it cannot get one, so this is checked first when killing.
    const isEnded = this.#isKilling;
    if (isEnded && !(await this.#endUser(record))) return false;
    if (!(await this.parts.inner.proveEmpty(record, deep))) return false;
    if (!isEnded && !(await this.#findNobody(record))) return false;
    this.#isProved = true;
    const how = this.#wasKilled ? ', after SIGKILL to each of them' : '';
    record.proof('uid-empty', `no process of the user ${this.parts.uid} exists${how}`);
    return true;
  }

  onChange(callback: () => void): () => void {
    return this.parts.inner.onChange(callback);
  }

  async freeze(): Promise<void> {
    this.#freezing = true;
    await this.parts.inner.freeze();
    // A process of another user cannot leave a cgroup.
    if (this.containment === 'cgroup') return;
    let running: readonly ProcStat[] = [];
    await untilStill(
      async () => {
        if (!this.#freezing) return true;
        const { sound, of } = await this.parts.sweeper.sweep();
        // The tree was thawed meanwhile: a process that is stopped now would stay so.
        if (!this.#freezing) return true;
        this.#strays = running = of(this.parts.uid);
        return this.#halt.holds(running) && sound;
      },
      () => ({
        message: `Not every process of the user ${this.parts.uid} stopped in time.`,
        details: { running: running.map(toSeen) },
      }),
    );
  }

  thaw(): void {
    this.#freezing = false;
    this.parts.inner.thaw();
    for (const stray of this.#strays) this.#signal(stray, 'SIGCONT');
    this.#halt.release();
  }

  processes(): SeenProcess[] {
    const known = this.parts.inner.processes();
    const pids = new Set(known.map(({ pid }) => pid));
    const strays = this.#strays.flatMap((stray) => findAlive(stray) ?? []);
    return [...known, ...strays.filter(({ pid }) => !pids.has(pid)).map(toSeen)];
  }

  async dispose(): Promise<boolean> {
    const isDone = await this.parts.inner.dispose();
    // After an unproved end the id stays taken: a process of it may run.
    if (this.#isProved) await this.parts.giveBack();
    return isDone;
  }

  /** Forks may be faster than signals to one process after the other. This reaches all processes of the user in one step. */
  async #endUser(record: StopRecord): Promise<boolean> {
    if (await this.#findNobody(record)) return true;
    if (!(await killAllOf(this.parts.uid))) return false;
    this.#wasKilled = true;
    return this.#findNobody(record);
  }

  /** Called once `inner` has found none. A hidden process gets no grace where a pass cannot be certain. */
  async #findNobody(record: StopRecord): Promise<boolean> {
    const { found, isEmpty, isKilled } = await lookForUser(this.parts.uid, this.parts.sweeper);
    this.#wasKilled ||= isKilled === true;
    this.#take(found, record);
    return isEmpty;
  }

  #take(found: readonly ProcStat[], record: StopRecord): void {
    this.#strays = found;
    for (const process of found) record.saw(process);
  }

  #askStrays(record: StopRecord): void {
    const members = new Set(this.parts.inner.processes().map(({ pid }) => pid));
    for (const stray of this.#strays) {
      const key = `${stray.pid}:${stray.startTime}`;
      if (members.has(stray.pid) || this.#asked.has(key)) continue;
      this.#asked.add(key);
      if (!this.#signal(stray, 'SIGTERM')) continue;
      record.sent('SIGTERM', 'process', stray.pid);
      if (this.#signal(stray, 'SIGCONT')) record.sent('SIGCONT', 'process', stray.pid);
    }
  }

  #signal(target: PidStart, signal: NodeJS.Signals): boolean {
    return signalProcess(target, signal, this.parts.libc);
  }
}
