import type { SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import { NO_DESCENDANT, type Descent } from './descent';
import { findDescendants } from './descendants';
import { Halt, untilStill } from './halt';
import { HeldMembers } from './held-members';
import { findAlive, type PidStart } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { send, signalGroup, signalProcess } from './signal-process';
import type { StopRecord } from './stop-record';
import type { Sweep, Sweeper } from './sweep';

/** The identity of a tree without a cgroup, and the tools to find its processes. */
export interface GroupTreeParts {
  readonly leader: PidStart & { readonly command?: string };
  readonly cookie: string;
  readonly sweeper: Sweeper;
  readonly libc?: Libc | undefined;
  /** Present where this process is a subreaper, and the sweeper looks at its descendants. */
  readonly descent?: Descent | undefined;
  /**
   * The leader is outside of the agent's PID namespace, and in a session with the namespace's init alone. It would hand SIGTERM on
   * to the command, which gets its own.
   */
  readonly isOutside?: boolean;
}

/**
 * Containments `descent` and `marks`. `kill(-pgid)` reaches the group in one step, so no fork escapes. The sweep finds
 * processes that left the group, by descent, session, cookie and mark. The two differ in the proof: under `descent` no process
 * can leave unseen. docs/process-signals.md#limits-of-the-proof says what `marks` cannot see.
 */
export class GroupTree implements ProcessTree {
  readonly containment: 'descent' | 'marks';
  readonly leader: PidStart & { readonly command?: string };
  readonly #parts: GroupTreeParts;
  readonly #members: HeldMembers;
  readonly #halt: Halt;
  /** Clock ticks since boot when the whole group was sent SIGTERM; 0 before. */
  #groupAskedAt = 0;
  /** Processes that were already sent SIGTERM by pid. */
  readonly #asked = new Set<string>();

  /** Whether a freeze was asked for and not taken back. */
  #freezing = false;

  constructor(parts: GroupTreeParts) {
    this.#parts = parts;
    this.#halt = new Halt(parts.libc);
    this.leader = parts.leader;
    this.#members = new HeldMembers(parts.leader, parts.cookie);
    this.containment = parts.descent === undefined ? 'marks' : 'descent';
    parts.descent?.lineage.add(this.#members);
  }

  markReaped(): void {
    this.#members.markReaped();
  }

  /** Called for every pass of the host, whoever asked for it. */
  absorb(sweep: Sweep): void {
    this.#members.absorb(sweep);
  }

  terminate(record: StopRecord): void {
    // A freeze under way must not stop processes again that were asked to end.
    this.#freezing = false;
    this.#learn();
    for (const stat of this.#members.alive()) record.saw(stat);
    if (this.#hasBegunInside() || this.#signalGroup('SIGTERM', record)) {
      this.#signalGroup('SIGCONT', record);
      for (const stat of this.#members.known.values())
        if (stat.group === this.leader.pid) this.#asked.add(key(stat));
    }
    this.terminateFound(record);
    this.#halt.release();
  }

  terminateFound(record: StopRecord): void {
    for (const stat of this.#members.known.values()) {
      // Some programs take a second SIGTERM to mean "at once". Processes that were in the group then have had theirs.
      const byGroup = stat.group === this.leader.pid && Number(stat.startTime) <= this.#groupAskedAt;
      if (this.#parts.isOutside === true && stat.session === this.leader.pid) continue;
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
      'two passes over /proc in a row read every process, and found none that bears its marks',
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
    else record.proof('sweep-empty', 'the remaining orphans of the worker bear marks of other agents');
    return true;
  }

  /** One pass; the record takes the processes that it found. */
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
    await untilStill(
      // If the tree was thawed meanwhile, there is nothing to wait for.
      async () => !this.#freezing || (await this.#isStill()) || !this.#freezing,
      () => ({
        message: `Not every process of the tree of ${this.leader.pid} was seen stopped in time.`,
        details: { running: this.processes() },
      }),
    );
  }

  /**
   * One round: SIGSTOP to the group, then to each process that a pass saw run. The tree is still when a pass that missed none
   * saw every process stopped.
   */
  async #isStill(): Promise<boolean> {
    this.#learn();
    signalGroup(this.leader, 'SIGSTOP');
    // Orphans that bear no sign of their agent: no pass assigns them to this tree, and a look ends them.
    const escapees = (await this.#parts.descent?.look()) ?? 0;
    const { sound } = await this.#parts.sweeper.sweep();
    // The tree was thawed meanwhile: a process that is stopped now would stay so.
    return this.#freezing && this.#halt.holds(this.#members.seen) && sound && escapees === 0;
  }

  thaw(): void {
    this.#freezing = false;
    signalGroup(this.leader, 'SIGCONT');
    for (const stat of this.#members.known.values()) this.#signal(stat, 'SIGCONT');
    this.#halt.release();
  }

  processes(): SeenProcess[] {
    this.#learn();
    return this.#members.alive().map(toSeen);
  }

  dispose(): boolean {
    this.#members.forget();
    this.#parts.descent?.lineage.remove(this.#members);
    return true;
  }

  /** Follows the present chains of parents, before a signal breaks them. */
  #learn(): void {
    const lineage = this.#parts.descent?.lineage;
    const members = this.#members.alive();
    // A process that descends from the tree by birth belongs to it. The other processes may only claim so.
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
    // A zombie accepts signals too: the report must not claim a process that something else ended.
    const runs = findAlive(this.leader) !== undefined || this.#groupIsHeld();
    const sent = signalGroup(this.leader, signal) || (this.#groupIsHeld() && send(-this.leader.pid, signal));
    if (sent && runs) record.sent(signal, 'group', this.leader.pid);
    return sent;
  }

  /** Whether the command of a leader outside of its namespace was seen. If not, the leader's end keeps it from beginning. */
  #hasBegunInside(): boolean {
    const known = [...this.#members.known.values()];
    return this.#parts.isOutside === true && known.some(({ session }) => session !== this.leader.pid);
  }

  /** After the leader was reaped, a live member of its group keeps the number reserved as well. */
  #groupIsHeld(): boolean {
    for (const stat of this.#members.known.values())
      if (stat.group === this.leader.pid && findAlive(stat)?.group === this.leader.pid) return true;
    return false;
  }
}

function key(stat: PidStart): string {
  return `${stat.pid}:${stat.startTime}`;
}
