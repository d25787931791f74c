import { BelayError, type SeenProcess } from '#libs/contracts';
import type { Libc } from '../native';
import type { Cgroup } from './cgroup';
import { markOf } from './limit-mark';
import { findAlive, isRunning, readStat, type PidStart, type ProcStat } from './proc-stat';
import { toSeen, type ProcessTree } from './process-tree';
import { signalListed, signalProcess } from './signal-process';
import type { StopRecord } from './stop-record';
import type { Sweeper } from './sweep';

const FREEZE_WAIT_MS = 5_000;
const POLL_MS = 20;

/**
 * Containment by a cgroup v2 of its own: nobody leaves it by forking, by a session of its own or by clearing the
 * environment. A process with the right to (root) can move itself out; the cookie sweep of a stop looks for those.
 */
export class CgroupTree implements ProcessTree {
  readonly containment = 'cgroup';
  #reaped = false;
  /** We asked for it, though it may not show yet. */
  #freezing = false;
  /** Moved out of the cgroup, found by cookie. */
  readonly #outsiders = new Map<string, ProcStat>();
  readonly #asked = new Set<number>();

  constructor(
    readonly leader: PidStart & { readonly command?: string },
    private readonly cookie: string,
    private readonly cgroup: Cgroup,
    private readonly sweeper: Sweeper,
    private readonly libc?: Libc,
  ) {}

  markReaped(): void {
    this.#reaped = true;
  }

  terminate(record: StopRecord): void {
    try {
      for (const member of this.#inside()) record.saw(member);
      // Read anew: whoever holds one of these pids is in this cgroup at this moment, and that is all a signal needs.
      const inside = (): number[] => this.cgroup.pids();
      // A frozen process takes SIGTERM with it into waking; a stopped one needs SIGCONT to see it.
      signalListed(inside, ['SIGTERM', 'SIGCONT'], this.libc, (pid, signal) => {
        this.#asked.add(pid);
        record.sent(signal, 'process', pid);
      });
    } finally {
      // Just started, the first process may not have joined yet. Asked later it could have joined in between, and then
      // nobody would ask it at all. It is known without the cgroup, too, should that not be readable.
      const leader = this.#reaped ? undefined : findAlive(this.leader);
      if (leader !== undefined && !this.#asked.has(leader.pid)) this.#ask(leader, record);
      if (this.#freezing || this.cgroup.frozen()) this.thaw();
    }
  }

  kill(record: StopRecord): void {
    // A tree that is empty already was ended by somebody else: a report must not claim it. Just started, the first
    // process may join between the look and the kill.
    const isThere = this.cgroup.populated() || (!this.#reaped && findAlive(this.leader) !== undefined);
    this.cgroup.kill();
    if (isThere) record.sent('SIGKILL', 'cgroup');
    for (const outsider of this.#outside())
      if (signalProcess(outsider, 'SIGKILL', this.libc)) record.sent('SIGKILL', 'process', outsider.pid);
  }

  async search(record: StopRecord): Promise<void> {
    await this.#look(record);
  }

  /** True: who had left the cgroup with its marks was not missed. */
  async #look(record: StopRecord): Promise<boolean> {
    const sweep = await this.sweeper.sweep();
    const found = [this.cookie, markOf(this.cookie)]
      .flatMap((mark) => sweep.byCookie.get(mark) ?? [])
      .filter((process) => findAlive(process) !== undefined);
    if (found.length === 0) return sweep.sound;
    const inside = new Set(this.cgroup.pids());
    for (const process of found) {
      record.saw(process);
      if (!inside.has(process.pid)) this.#outsiders.set(key(process), process);
    }
    return sweep.sound;
  }

  terminateFound(record: StopRecord): void {
    for (const found of this.#outside()) if (!this.#asked.has(found.pid)) this.#ask(found, record);
  }

  quiet(): boolean {
    return !this.cgroup.populated() && this.#outside().length === 0;
  }

  async proveEmpty(record: StopRecord, deep: boolean): Promise<boolean> {
    if (deep && !(await this.#look(record))) return false;
    if (!this.quiet()) return false;
    record.proof('cgroup-empty', 'cgroup.events says populated 0');
    if (deep) record.proof('sweep-empty', 'one pass over /proc found no process that had left the cgroup');
    return true;
  }

  onChange(callback: () => void): () => void {
    return this.cgroup.onEvents(callback);
  }

  async freeze(): Promise<void> {
    this.#freezing = true;
    this.cgroup.freeze(true);
    const deadline = performance.now() + FREEZE_WAIT_MS;
    // Thawed meanwhile, there is nothing to wait for.
    while (this.#freezing && !this.cgroup.frozen()) {
      if (performance.now() > deadline)
        throw new BelayError('TIMEOUT', `The cgroup ${this.cgroup.path} was not frozen in time.`, {
          details: { waitedMs: FREEZE_WAIT_MS },
        });
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  thaw(): void {
    this.#freezing = false;
    this.cgroup.freeze(false);
  }

  processes(): SeenProcess[] {
    return [...this.#inside(), ...this.#outside()].map(toSeen);
  }

  dispose(): boolean {
    return this.cgroup.remove();
  }

  #outside(): ProcStat[] {
    const outside = [...this.#outsiders.values()].flatMap((stat) => findAlive(stat) ?? []);
    // The first process is ours until it is reaped, wherever it moved itself.
    const leader = this.#reaped ? undefined : findAlive(this.leader);
    const known = leader === undefined || outside.some(({ pid }) => pid === leader.pid);
    return known || this.cgroup.pids().includes(leader.pid) ? outside : [leader, ...outside];
  }

  #ask(process: PidStart, record: StopRecord): void {
    this.#asked.add(process.pid);
    if (signalProcess(process, 'SIGTERM', this.libc)) record.sent('SIGTERM', 'process', process.pid);
    if (signalProcess(process, 'SIGCONT', this.libc)) record.sent('SIGCONT', 'process', process.pid);
  }

  /** The processes inside now, with start times: for reports. Signals go by a list read at their own moment. */
  #inside(): ProcStat[] {
    return this.cgroup.pids().flatMap((pid) => runningAt(pid) ?? []);
  }
}

function runningAt(pid: number): ProcStat | undefined {
  const stat = readStat(pid);
  return stat !== undefined && isRunning(stat) ? stat : undefined;
}

function key(process: PidStart): string {
  return `${process.pid}:${process.startTime}`;
}
