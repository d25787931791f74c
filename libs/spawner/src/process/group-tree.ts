import { BelayError, type SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import { NO_DESCENDANT, type Descent } from './descent';
import { findDescendants } from './descendants';
import { HeldMembers } from './held-members';
import { findAlive, type PidStart, type ProcStat } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { send, signalGroup, signalProcess } from './signal-process';
import type { StopRecord } from './stop-record';
import type { Sweep, Sweeper } from './sweep';

/** A stopped process stops when it is next run, which a busy machine puts off. Milliseconds. */
const FREEZE_WAIT_MS = 5_000;
const LONGEST_ROUND_MS = 20;

/** The identity of a tree without a cgroup, and the tools to look for it. */
export interface GroupTreeParts {
  readonly leader: PidStart & { readonly command?: string };
  readonly cookie: string;
  readonly sweeper: Sweeper;
  readonly libc?: Libc | undefined;
  /** This process is a subreaper, and the sweeper goes over its descendants. */
  readonly descent?: Descent | undefined;
}

/**
 * Containments `descent` and `marks`. `kill(-pgid)` reaches the group in one step, also against forks; the sweep finds who
 * left it, by descent, session, cookie and mark. They differ in the proof: under `descent` nobody can have left unseen.
 * docs/process-signals.md, "What is not proved", says what `marks` cannot see.
 */
export class GroupTree implements ProcessTree {
  readonly containment: 'descent' | 'marks';
  readonly leader: PidStart & { readonly command?: string };
  readonly #parts: GroupTreeParts;
  readonly #members: HeldMembers;
  /** Clock ticks since boot when the whole group was sent SIGTERM; 0 before. */
  #groupAskedAt = 0;
  /** Processes that were sent SIGTERM by pid already. */
  readonly #asked = new Set<string>();

  /** We asked for it, and nobody has taken it back. */
  #freezing = false;

  constructor(parts: GroupTreeParts) {
    this.#parts = parts;
    this.leader = parts.leader;
    this.#members = new HeldMembers(parts.leader, parts.cookie);
    this.containment = parts.descent === undefined ? 'marks' : 'descent';
    parts.descent?.lineage.add(this.#members);
  }

  markReaped(): void {
    this.#members.markReaped();
  }

  /** Called for every pass of the host's, whoever asked for it. */
  absorb(sweep: Sweep): void {
    this.#members.absorb(sweep);
  }

  terminate(record: StopRecord): void {
    this.#learn();
    for (const stat of this.#members.alive()) record.saw(stat);
    if (this.#signalGroup('SIGTERM', record)) {
      this.#signalGroup('SIGCONT', record);
      for (const stat of this.#members.known.values())
        if (stat.group === this.leader.pid) this.#asked.add(key(stat));
    }
    this.terminateFound(record);
  }

  terminateFound(record: StopRecord): void {
    for (const stat of this.#members.known.values()) {
      // Some programs take a second SIGTERM to mean "at once": processes that were in the group then have had theirs.
      const byGroup = stat.group === this.leader.pid && Number(stat.startTime) <= this.#groupAskedAt;
      if (byGroup || this.#asked.has(key(stat))) continue;
      this.#asked.add(key(stat));
      if (!this.#signal(stat, 'SIGTERM')) continue;
      record.sent('SIGTERM', 'process', stat.pid);
      if (this.#signal(stat, 'SIGCONT')) record.sent('SIGCONT', 'process', stat.pid);
    }
  }

  kill(record: StopRecord): void {
    this.#learn();
    this.#signalGroup('SIGKILL', record);
    for (const stat of this.#members.known.values())
      if (this.#signal(stat, 'SIGKILL')) record.sent('SIGKILL', 'process', stat.pid);
  }

  async search(record: StopRecord): Promise<void> {
    await this.#parts.sweeper.sweep();
    for (const stat of this.processes()) record.saw(stat);
  }

  quiet(): boolean {
    return this.#members.isQuiet();
  }

  async proveEmpty(record: StopRecord): Promise<boolean> {
    const { descent } = this.#parts;
    if (descent !== undefined) return this.#proveByDescent(record, descent);
    for (let pass = 1; pass <= 2; pass += 1) if (!(await this.#foundNobody(record))) return false;
    record.proof(
      'sweep-empty',
      'two passes over /proc in a row missed none that bears its marks, and found none',
    );
    return true;
  }

  async #proveByDescent(record: StopRecord, descent: Descent): Promise<boolean> {
    const verdict = await descent.judgeTree(this.#members, () => this.quiet());
    if (verdict === 'unsure') return false;
    if (verdict === 'alive' || verdict === 'shared') {
      await this.#foundNobody(record);
      return false;
    }
    if (verdict === 'kernel') record.proof('descent-empty', NO_DESCENDANT);
    else record.proof('sweep-empty', 'orphans of the worker are left, and say that they are of other agents');
    return true;
  }

  /** One pass, with who is found in the record. */
  async #foundNobody(record: StopRecord): Promise<boolean> {
    const { sound } = await this.#parts.sweeper.sweep();
    if (sound && this.quiet()) return true;
    for (const stat of this.processes()) record.saw(stat);
    return false;
  }

  onChange(): () => void {
    return () => {};
  }

  async freeze(): Promise<void> {
    this.#freezing = true;
    const deadline = performance.now() + FREEZE_WAIT_MS;
    for (let roundMs = 1; performance.now() < deadline; roundMs = Math.min(roundMs * 2, LONGEST_ROUND_MS)) {
      this.#learn();
      signalGroup(this.leader, 'SIGSTOP');
      await this.#parts.sweeper.sweep();
      // Thawed meanwhile: a process that is stopped now would stay so.
      if (!this.#freezing) return;
      const running = this.#members.alive().filter((stat) => !isStopped(stat));
      if (running.length === 0) return;
      for (const stat of running) this.#signal(stat, 'SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, roundMs));
      if (!this.#freezing) return;
    }
    throw new BelayError('TIMEOUT', `Not every process of the tree of ${this.leader.pid} stopped in time.`, {
      details: { waitedMs: FREEZE_WAIT_MS, running: this.processes() },
    });
  }

  thaw(): void {
    this.#freezing = false;
    signalGroup(this.leader, 'SIGCONT');
    for (const stat of this.#members.known.values()) this.#signal(stat, 'SIGCONT');
  }

  processes(): SeenProcess[] {
    this.#learn();
    return this.#members.alive().map(toSeen);
  }

  dispose(): boolean {
    this.#members.known.clear();
    this.#parts.descent?.lineage.remove(this.#members);
    return true;
  }

  /** Follows the chains of parents as they are now, before a signal breaks them. */
  #learn(): void {
    const lineage = this.#parts.descent?.lineage;
    const members = this.#members.alive();
    // A process that descends from the tree by birth is of it; the others may only say that they are of it.
    const born =
      lineage === undefined ? members : members.filter((stat) => lineage.ownerOf(stat) === this.#members);
    const found = findDescendants(born);
    lineage?.learn(this.#members, found);
    if (born.length < members.length)
      found.push(...findDescendants(members.filter((stat) => !born.includes(stat))));
    for (const stat of found) this.#members.known.set(stat.pid, stat);
  }

  #signal(target: PidStart, signal: NodeJS.Signals): boolean {
    return signalProcess(target, signal, this.#parts.libc);
  }

  #signalGroup(signal: NodeJS.Signals, record: StopRecord): boolean {
    // A zombie takes signals too: who was ended by somebody else must not be claimed as reached.
    const runs = findAlive(this.leader) !== undefined || this.#groupIsHeld();
    const sent = signalGroup(this.leader, signal) || (this.#groupIsHeld() && send(-this.leader.pid, signal));
    if (sent && runs) record.sent(signal, 'group', this.leader.pid);
    return sent;
  }

  /** After the leader was reaped, a live member of its group holds the number just as well. */
  #groupIsHeld(): boolean {
    for (const stat of this.#members.known.values())
      if (stat.group === this.leader.pid && findAlive(stat)?.group === this.leader.pid) return true;
    return false;
  }
}

/**
 * Stopped, or bound to stop before it runs another instruction of its own: in state D (a shell waiting for its
 * stopped vfork child, say) SIGSTOP is pending.
 */
function isStopped(stat: ProcStat): boolean {
  return stat.state === 'T' || stat.state === 't' || stat.state === 'D';
}

function key(stat: PidStart): string {
  return `${stat.pid}:${stat.startTime}`;
}
