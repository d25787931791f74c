import { closeSync } from 'node:fs';
import {
  NativeError,
  peekChild,
  posixSpawn,
  reapChild,
  receiveDescriptors,
  type Libc,
  type EncodedPlan,
} from '../native';
import { begunLine, doneLine, exitLine, failedLine, spawnedLine } from './guardian-protocol';
import { readStat, type PidStart } from './proc-stat';

interface Leader {
  readonly pid: number;
  /** Undefined where it could not be read yet: this process had no descriptor left. */
  startTime: string | undefined;
  told: boolean;
}

/**
 * The guardian's children: the first process of each agent, which it starts at the worker's request. A dead one stays a zombie
 * until the worker has noted its end, so its number, session and group are not given away before.
 */
export class GuardedAgents {
  readonly #leaders = new Map<number, Leader>();

  /** @param say writes one line to the worker. */
  constructor(
    private readonly libc: Libc,
    private readonly socket: number,
    private readonly say: (line: string) => void,
  ) {}

  leaders(): PidStart[] {
    return [...this.#leaders.values()].flatMap((leader) => {
      leader.startTime ??= startTimeOf(leader.pid);
      const { pid, startTime } = leader;
      return startTime === undefined ? [] : [{ pid, startTime }];
    });
  }

  /** Blocks this process until the command was executed, or failed to be. */
  start(id: number, plan: Omit<EncodedPlan, 'fds'>): void {
    let fds: readonly number[] = [];
    try {
      fds = this.#descriptorsOf(id);
      this.say(begunLine(id));
      const pid = posixSpawn(this.libc, { ...plan, fds });
      this.#leaders.set(pid, { pid, startTime: startTimeOf(pid), told: false });
      this.say(spawnedLine(id, pid));
    } catch (error) {
      this.say(failedLine(id, error instanceof NativeError ? error.code : 'OTHER'));
    } finally {
      for (const fd of fds) closeSync(fd);
    }
    // A SIGCHLD between the fork and this line found the child in no list.
    this.tellExits();
  }

  /** Must be called at each SIGCHLD. Signals coalesce, so each first process is looked at. */
  tellExits(): void {
    for (const leader of this.#leaders.values()) {
      if (leader.told) continue;
      const exit = peekChild(this.libc, leader.pid);
      if (exit === 'running') continue;
      leader.told = true;
      this.say(exitLine(leader.pid, exit === 'not-a-child' ? { code: null, signal: null } : exit));
    }
  }

  /** Reaps those of `pids` that are dead: leaders whose end the worker knows, and orphans that this process adopted. */
  reap(id: number, pids: readonly number[]): void {
    this.tellExits();
    for (const pid of pids) if (reapChild(this.libc, pid) !== 'running') this.#leaders.delete(pid);
    this.say(doneLine(id));
  }

  /** Closes descriptors that abandoned starts have left. */
  #descriptorsOf(id: number): readonly number[] {
    for (;;) {
      const given = receiveDescriptors(this.libc, this.socket);
      if (given === undefined) throw new NativeError('recvmsg', EBADF);
      if (given.tag === id) return given.fds;
      for (const fd of given.fds) closeSync(fd);
    }
  }
}

/** Never throws: a start whose process was made must not be reported as failed. Until it is reaped, the process keeps its number. */
function startTimeOf(pid: number): string | undefined {
  try {
    return readStat(pid)?.startTime;
  } catch {
    return undefined;
  }
}

const EBADF = 9;
