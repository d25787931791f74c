import type { SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import type { Cgroup } from './cgroup';
import { NO_DESCENDANT, type Descent } from './descent';
import { Halt, untilStill } from './halt';
import { HeldMembers } from './held-members';
import { findAlive, isRunning, readStat, type PidStart, type ProcStat } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { signalListed, signalProcess } from './signal-process';
import type { StopRecord } from './stop-record';
import type { Sweep, Sweeper } from './sweep';

/** The detail of the evidence `cgroup-empty`. */
const UNPOPULATED = 'cgroup.events says populated 0';

/** The identity of a tree with a cgroup, and the tools to find processes that left it. */
export interface CgroupTreeParts {
  readonly leader: PidStart & { readonly command?: string };
  readonly cookie: string;
  readonly cgroup: Cgroup;
  readonly sweeper: Sweeper;
  readonly libc?: Libc | undefined;
  /** Present where this process is a subreaper, and the sweeper looks at its descendants. */
  readonly descent?: Descent | undefined;
}

/**
 * Containment by a cgroup v2 of its own. A process cannot leave it by forking, by a session of its own or by clearing the
 * environment. A process with the right to write another cgroup can move itself out: always as root, often where cgroups are
 * delegated. So descent contains the tree as well (descent.ts), and its proof has the grade `kernel` when both are empty. Where
 * there is no descent (without libc), passes look for the marks of processes that moved out, and the proof has the grade
 * `marks`.
 */
export class CgroupTree implements ProcessTree {
  readonly containment = 'cgroup';
  readonly #parts: CgroupTreeParts;
  readonly #members: HeldMembers;
  /** Processes that left the cgroup, which its freezer does not reach. */
  readonly #halt: Halt;
  /** Whether a freeze was asked for; it may not show yet. */
  #freezing = false;
  readonly #asked = new Set<number>();

  constructor(parts: CgroupTreeParts) {
    this.#parts = parts;
    this.#halt = new Halt(parts.libc);
    this.#members = new HeldMembers(parts.leader, parts.cookie, parts.cgroup);
    parts.descent?.lineage.add(this.#members);
  }

  get leader(): PidStart {
    return this.#parts.leader;
  }

  markReaped(): void {
    this.#members.markReaped();
  }

  /** Called for every pass of the host, whoever asked for it. */
  absorb(sweep: Sweep): void {
    this.#members.absorb(sweep);
  }

  terminate(record: StopRecord): void {
    try {
      for (const member of this.#inside()) record.saw(member);
      // Read at each signal: a pid in this list is in this cgroup at this moment, and a signal needs no more.
      const inside = (): number[] => this.#parts.cgroup.pids();
      // A frozen process gets a pending SIGTERM when it is thawed; a stopped process gets it with SIGCONT.
      signalListed(inside, ['SIGTERM', 'SIGCONT'], this.#parts.libc, (pid, signal) => {
        this.#asked.add(pid);
        record.sent(signal, 'process', pid);
      });
      this.terminateFound(record);
    } finally {
      // Directly after the start the first process may not have joined yet. A later look could miss the signal, because the
      // process may join in between. The first process is also known without the cgroup, if the cgroup cannot be read.
      const leader = findAlive(this.leader);
      if (leader !== undefined && !this.#asked.has(leader.pid)) this.#ask(leader, record);
      if (this.#freezing || this.#parts.cgroup.frozen()) this.thaw();
    }
  }

  kill(record: StopRecord): void {
    // If the tree is empty already, something else ended it, and a report must not claim it. Directly after the start, the
    // first process may join between the look and the kill.
    const isThere = this.#parts.cgroup.populated() || findAlive(this.leader) !== undefined;
    try {
      this.#parts.cgroup.kill(this.#parts.libc);
      if (isThere) record.sent('SIGKILL', 'cgroup');
    } finally {
      for (const outsider of this.#outside())
        if (signalProcess(outsider, 'SIGKILL', this.#parts.libc))
          record.sent('SIGKILL', 'process', outsider.pid);
    }
  }

  async search(record: StopRecord): Promise<void> {
    await this.#look(record);
  }

  /** True: no process that left the cgroup with its marks was missed. */
  async #look(record: StopRecord): Promise<boolean> {
    const { sound } = await this.#parts.sweeper.sweep();
    for (const process of this.#members.alive()) record.saw(process);
    return sound;
  }

  terminateFound(record: StopRecord): void {
    for (const found of this.#outside()) if (!this.#asked.has(found.pid)) this.#ask(found, record);
  }

  quiet(): boolean {
    return !this.#parts.cgroup.populated() && this.#members.isQuiet();
  }

  async proveEmpty(record: StopRecord, deep: boolean): Promise<boolean> {
    const { descent } = this.#parts;
    if (descent !== undefined) return this.#proveByDescent(record, descent);
    if (deep && !(await this.#look(record))) return false;
    if (!this.quiet()) return false;
    record.proof('cgroup-empty', UNPOPULATED);
    if (deep) record.proof('sweep-empty', 'one pass over /proc found no process that had left the cgroup');
    return true;
  }

  async #proveByDescent(record: StopRecord, descent: Descent): Promise<boolean> {
    const verdict = await descent.judgeTree(this.#members, () => this.quiet());
    if (verdict === 'alive' || verdict === 'unsure') {
      await this.#look(record);
      return false;
    }
    record.proof('cgroup-empty', UNPOPULATED);
    if (verdict === 'kernel') record.proof('descent-empty', NO_DESCENDANT);
    else if (verdict === 'marks')
      record.proof('sweep-empty', 'the remaining orphans of the worker bear marks of other agents');
    else record.proof('sweep-empty', 'an orphan of the host program remains, and its agent is unknown');
    return true;
  }

  onChange(callback: () => void): () => void {
    return this.#parts.cgroup.onEvents(callback);
  }

  async freeze(): Promise<void> {
    this.#freezing = true;
    await untilStill(
      // If the tree was thawed meanwhile, there is nothing to wait for.
      async () => !this.#freezing || (await this.#isStill()) || !this.#freezing,
      () =>
        this.#parts.cgroup.frozen()
          ? {
              message: `Not every process that left the cgroup ${this.#parts.cgroup.path} was seen stopped in time.`,
              details: { running: this.#outside().map(toSeen) },
            }
          : { message: `The cgroup ${this.#parts.cgroup.path} was not frozen in time.` },
    );
  }

  /** One round: the freezer for processes inside, SIGSTOP for those that left, by a pass that missed none. */
  async #isStill(): Promise<boolean> {
    const { cgroup, descent, sweeper } = this.#parts;
    // Repeated each time: a process that left the cgroup may thaw it until it is stopped itself.
    cgroup.freeze(true);
    if (!cgroup.frozen()) return false;
    // Orphans that bear no sign of their agent: no pass assigns them to this tree, and a look ends them.
    const escapees = (await descent?.look()) ?? 0;
    const { sound } = await sweeper.sweep();
    if (!this.#freezing) return false;
    const inside = new Set(cgroup.pids());
    const isStill = this.#halt.holds(this.#members.seen.filter(({ pid }) => !inside.has(pid)));
    return escapees === 0 && sound && isStill && cgroup.frozen();
  }

  thaw(): void {
    this.#freezing = false;
    try {
      this.#parts.cgroup.freeze(false);
    } finally {
      this.#halt.release();
    }
  }

  processes(): SeenProcess[] {
    return [...this.#inside(), ...this.#outside()].map(toSeen);
  }

  dispose(): boolean {
    this.#members.forget();
    this.#parts.descent?.lineage.remove(this.#members);
    return this.#parts.cgroup.remove();
  }

  /** Processes that are known to belong to the tree, and are not in its cgroup. */
  #outside(): ProcStat[] {
    const alive = this.#members.alive();
    if (alive.length === 0) return alive;
    const inside = new Set(this.#parts.cgroup.pids());
    return alive.filter(({ pid }) => !inside.has(pid));
  }

  #ask(process: PidStart, record: StopRecord): void {
    this.#asked.add(process.pid);
    if (signalProcess(process, 'SIGTERM', this.#parts.libc)) record.sent('SIGTERM', 'process', process.pid);
    if (signalProcess(process, 'SIGCONT', this.#parts.libc)) record.sent('SIGCONT', 'process', process.pid);
  }

  /** The processes inside now, with start times, for reports. Signals use a list that is read at their own moment. */
  #inside(): ProcStat[] {
    return this.#parts.cgroup.pids().flatMap((pid) => runningAt(pid) ?? []);
  }
}

function runningAt(pid: number): ProcStat | undefined {
  const stat = readStat(pid);
  return stat !== undefined && isRunning(stat) ? stat : undefined;
}
