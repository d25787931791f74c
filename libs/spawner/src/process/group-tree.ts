import { BelayError, type SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import { findDescendants } from './descendants';
import { findMembers } from './members';
import { findAlive, ticksSinceBoot, type PidStart, type ProcStat } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { send, signalGroup, signalProcess } from './signal-process';
import type { StopRecord } from './stop-record';
import type { Sweep, Sweeper } from './sweep';

const FREEZE_ROUNDS = 20;

/**
 * Containment by session, process group and cookie. `kill(-pgid)` reaches the group in one step, also against forks;
 * the sweep finds who left it. What it cannot see: docs/process-signals.md, "What is not proved".
 */
export class GroupTree implements ProcessTree {
  readonly containment = 'group';
  #reapedAt: number | undefined;
  /** Everyone but the leader whom the last pass found, by pid. */
  #known = new Map<number, ProcStat>();
  /** Clock ticks since boot when the whole group was sent SIGTERM; 0 before. */
  #groupAskedAt = 0;
  /** Who was sent SIGTERM by pid already. */
  readonly #asked = new Set<string>();

  /** We asked for it, and nobody has taken it back. */
  #freezing = false;

  constructor(
    readonly leader: PidStart & { readonly command?: string },
    private readonly cookie: string,
    private readonly sweeper: Sweeper,
    private readonly libc?: Libc,
  ) {}

  markReaped(): void {
    this.#reapedAt = ticksSinceBoot();
  }

  /** Takes what concerns this tree out of a pass; called for every pass of the host's, whoever asked for it. */
  absorb(sweep: Sweep): void {
    const known = new Map([...this.#known].map(([pid, stat]) => [pid, stat.startTime]));
    const marks = { leader: this.leader, cookie: this.cookie, reapedAt: this.#reapedAt, known };
    // A pass sees every process that lives all through it, so who is not in it is dead and forgotten.
    this.#known = new Map();
    for (const member of findMembers(sweep, marks))
      if (member.pid !== this.leader.pid || member.startTime !== this.leader.startTime)
        this.#known.set(member.pid, member);
  }

  terminate(record: StopRecord): void {
    this.#learn();
    for (const stat of this.#members()) record.saw(stat);
    if (this.#signalGroup('SIGTERM', record)) {
      this.#signalGroup('SIGCONT', record);
      for (const stat of this.#known.values()) if (stat.group === this.leader.pid) this.#asked.add(key(stat));
    }
    this.terminateFound(record);
  }

  terminateFound(record: StopRecord): void {
    for (const stat of this.#known.values()) {
      // Twice SIGTERM means "at once" to some programs: who was in the group then has had it.
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
    for (const stat of this.#known.values())
      if (this.#signal(stat, 'SIGKILL')) record.sent('SIGKILL', 'process', stat.pid);
  }

  async search(record: StopRecord): Promise<void> {
    await this.sweeper.sweep();
    for (const stat of this.processes()) record.saw(stat);
  }

  quiet(): boolean {
    if (findAlive(this.leader) !== undefined) return false;
    for (const stat of this.#known.values()) if (findAlive(stat) !== undefined) return false;
    return true;
  }

  async proveEmpty(record: StopRecord): Promise<boolean> {
    for (let pass = 1; pass <= 2; pass += 1) {
      const { sound } = await this.sweeper.sweep();
      if (!sound || !this.quiet()) {
        for (const stat of this.processes()) record.saw(stat);
        return false;
      }
    }
    record.proof(
      'sweep-empty',
      'two passes over /proc in a row missed none that bears its marks, and found none',
    );
    return true;
  }

  onChange(): () => void {
    return () => {};
  }

  async freeze(): Promise<void> {
    this.#freezing = true;
    for (let round = 0; round < FREEZE_ROUNDS; round += 1) {
      this.#learn();
      signalGroup(this.leader, 'SIGSTOP');
      await this.sweeper.sweep();
      // Thawed meanwhile: whoever is stopped now would stay so.
      if (!this.#freezing) return;
      const running = this.#members().filter((stat) => !isStopped(stat));
      if (running.length === 0) return;
      for (const stat of running) this.#signal(stat, 'SIGSTOP');
    }
    throw new BelayError('TIMEOUT', `Not every process of the tree of ${this.leader.pid} stopped in time.`, {
      details: { running: this.processes() },
    });
  }

  thaw(): void {
    this.#freezing = false;
    signalGroup(this.leader, 'SIGCONT');
    for (const stat of this.#known.values()) this.#signal(stat, 'SIGCONT');
  }

  processes(): SeenProcess[] {
    this.#learn();
    return this.#members().map(toSeen);
  }

  dispose(): boolean {
    this.#known.clear();
    return true;
  }

  /** Follows the chains of parents as they are now, before a signal breaks them. */
  #learn(): void {
    for (const stat of findDescendants(this.#members())) this.#known.set(stat.pid, stat);
  }

  #signal(target: PidStart, signal: NodeJS.Signals): boolean {
    return signalProcess(target, signal, this.libc);
  }

  #members(): ProcStat[] {
    return [this.leader, ...this.#known.values()].flatMap((stat) => findAlive(stat) ?? []);
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
    for (const stat of this.#known.values())
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
