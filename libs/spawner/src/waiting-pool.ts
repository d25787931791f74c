import { isDeepStrictEqual } from 'node:util';
import type { RunnerOptions, WaitingProgram } from './agent-runner.types';
import type { AgentProcess, ProcessHost, SpawnRequest, WaitingProcess } from './process';

/** A process that does not report within this that it waits is ended: the application's module hangs. Milliseconds. */
const READY_MS = 30_000;
/** A process waits this long at most: a connection that its module has opened may be dead after a while. Milliseconds. */
const WAITS_MS = 600_000;
/** The pause before another process replaces one that failed; doubled each time. Milliseconds. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

interface Member {
  readonly process: WaitingProcess;
  readonly env: Readonly<Record<string, string>>;
  isReady: boolean;
  timer: NodeJS.Timeout;
}

/**
 * Processes of handlers that were started ahead of their attempts (ADR 0023): each has made the application's module, waits,
 * and gets one attempt. They belong to the host, so they end with it and by its guardian; none is an agent before it has an
 * attempt. An attempt that finds none starts a process of its own.
 */
export class WaitingPool {
  private readonly members = new Set<Member>();
  private starting = 0;
  private pauseMs = FIRST_PAUSE_MS;
  private pause: NodeJS.Timeout | undefined;
  private isOpen = false;

  constructor(
    private readonly host: ProcessHost,
    private readonly program: WaitingProgram | undefined,
    private readonly options: Pick<RunnerOptions, 'workDir' | 'onError'>,
  ) {}

  /** Processes that could be given an attempt now. */
  get ready(): number {
    return [...this.members].filter(({ isReady }) => isReady).length;
  }

  /** With isolation `user` none waits: users are for agents, and there may be no more users than agents. */
  open(): void {
    this.isOpen = this.program !== undefined && this.host.isolation !== 'user';
    this.fill();
  }

  /** Ends the waiting processes. */
  async close(): Promise<void> {
    this.isOpen = false;
    clearTimeout(this.pause);
    this.pause = undefined;
    await Promise.all([...this.members].map(async (member) => this.endOne(member)));
  }

  /**
   * A process for this attempt, in this turn of the event loop: nothing else happens between the check for a stop and the
   * start. Undefined: the attempt needs a process of its own. @throws BelayError SPAWN_FAILED: it may not start any more
   */
  take(request: SpawnRequest): AgentProcess | undefined {
    const { program } = this;
    const { command, shell, cwd: _, limits, stdin, ...rest } = request;
    if (program === undefined || !this.isOpen || shell || limits !== undefined || typeof stdin !== 'string')
      return undefined;
    const { length } = program.command;
    if (!isDeepStrictEqual(command.slice(0, length), program.command)) return undefined;
    const now = program.env();
    for (const member of this.members) {
      if (!member.isReady) continue;
      if (!isDeepStrictEqual(member.env, now)) {
        void this.endOne(member);
        continue;
      }
      const agent = this.host.assign(member.process, { ...rest, stdin, args: command.slice(length) });
      this.forget(member);
      if (agent === undefined) continue;
      this.pauseMs = FIRST_PAUSE_MS;
      return agent;
    }
    return undefined;
  }

  private fill(): void {
    const { count = 0 } = this.program ?? {};
    while (this.isOpen && this.pause === undefined && this.members.size + this.starting < count) {
      this.starting++;
      void this.startOne().finally(() => {
        this.starting--;
        this.fill();
      });
    }
  }

  private async startOne(): Promise<void> {
    const { program, options } = this;
    if (program === undefined) return;
    const env = program.env();
    try {
      const { command } = program;
      const process = await this.host.startWaiting({ command, env, cwd: options.workDir });
      const timer = setTimeout(() => void this.endOne(member), READY_MS).unref();
      const member: Member = { process, env, isReady: false, timer };
      this.members.add(member);
      void process.ready.then(() => this.isReady(member));
      void process.ended.then(() => this.hasEnded(member));
      if (!this.isOpen) await this.endOne(member);
    } catch (error) {
      if (this.isOpen) this.options.onError?.(error, '');
      this.rest();
    }
  }

  private isReady(member: Member): void {
    if (!this.members.has(member)) return;
    member.isReady = true;
    clearTimeout(member.timer);
    member.timer = setTimeout(() => void this.endOne(member), WAITS_MS).unref();
  }

  /** A process ended by itself, or was ended by the pool. One that was given an attempt is no member any more. */
  private hasEnded(member: Member): void {
    if (!this.members.has(member)) return;
    // It could not make the module, or the module ended the process. The next attempt that starts its own reports why.
    this.rest();
    this.forget(member);
  }

  private async endOne(member: Member): Promise<void> {
    if (!member.isReady) this.rest();
    this.forget(member);
    await member.process.end();
  }

  private forget(member: Member): void {
    clearTimeout(member.timer);
    this.members.delete(member);
    // The attempt that was just given a process goes first.
    setImmediate(() => this.fill());
  }

  /** Prevents a busy loop of failing starts. */
  private rest(): void {
    if (!this.isOpen || this.pause !== undefined) return;
    this.pause = setTimeout(() => {
      this.pause = undefined;
      this.fill();
    }, this.pauseMs).unref();
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
  }
}
