import type { Grade } from '#libs/contracts';
import type { Libc } from '../native';
import { AgentOutput, makeOutputPaces } from './agent-output';
import { RunningAgent } from './agent-process';
import { AgentStarts, type AgentStart, type StartRequest } from './agent-starts';
import type { Cgroup } from './cgroup';
import { CgroupTree } from './cgroup-tree';
import type { ChosenContainment } from './containment';
import { theDescent, type Descent } from './descent';
import type { DescentUser } from './descent.types';
import { GroupTree } from './group-tree';
import type { Guardian } from './guardian';
import * as records from './host-record';
import type { InputFile } from './input-file';
import type { ChosenIsolation } from './isolation';
import { NamespaceTree } from './namespace-tree';
import { PipePool } from './pipe-pool';
import { bootId, type ProcStat } from './proc-stat';
import type {
  AgentProcess,
  AssignRequest,
  Containment,
  Escapee,
  Isolation,
  ProcessHost,
  ProcessHostOptions,
  ReapedWorker,
  SpawnRequest,
  WaitingProcess,
  WaitingRequest,
} from './process-host.types';
import type { ProcessTree } from './process-tree';
import { failure } from './resolve-command';
import { LATER, startDeadline } from './start-process';
import { COOKIE_VARIABLE, Sweeper, WORKER_COOKIE_VARIABLE, type Sweep } from './sweep';
import { TREES_EVIDENCE, type TreesEvidence } from './trees-evidence';
import { TimeSliceQueue } from './time-slice-queue';
import { Waiting } from './waiting-process';
import { proofPath, writeProof } from './worker-proof';

/** What ids of workers and agents look like: they name files. */
export const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DEFAULT_KILL_WAIT_MS = 5_000;
const DEFAULT_DRAIN_MS = 500;
const DEFAULT_LOG_CAP_BYTES = 16 * 1024 * 1024;
const DEFAULT_WATCH_MS = 2_000;
/** A process of a start that was lost with its guardian is killed within this time, or by a later look. Milliseconds. */
const ORPHANS_END_MS = 10_000;
/** A look at the descendants of this process is cheap, ends escapees and reaps orphans. Milliseconds. */
const DESCENT_WATCH_MS = 250;
/** Looks at running trees may take at most this part of the time. */
const WATCH_SHARE = 0.05;

/** What a host is made of. */
export interface HostParts {
  readonly chosen: ChosenContainment;
  readonly isolated: ChosenIsolation;
  readonly reaped: readonly ReapedWorker[];
  /** In the environment of every agent. */
  readonly cookie: string;
  readonly proofKey: string;
  readonly guardian: Guardian;
  readonly libc: Libc | undefined;
  /** Present where descent contains the trees. */
  readonly descends: Libc | undefined;
}

/** Starts the agents of one worker and proves their ends, by the containment and the isolation that were chosen for it. */
export class Host implements ProcessHost, DescentUser {
  readonly containment: Containment;
  readonly ownsProcess: boolean;
  readonly #agents = new Map<
    string,
    { readonly agent: RunningAgent; readonly tree: ProcessTree; readonly inner: GroupTree | CgroupTree }
  >();
  /** The number of processes started ahead of their attempts so far. */
  #ahead = 0;
  /** Those of `#agents` that are no agents yet. */
  readonly #waiting = new Set<RunningAgent>();
  /** Starts that were requested and are not among the agents yet. */
  readonly #starting = new Map<string, Promise<unknown>>();
  readonly #descent: Descent | undefined;
  readonly #sweeper: Sweeper;
  readonly #turns = new TimeSliceQueue();
  readonly #paces = makeOutputPaces();
  readonly #pipes: PipePool;
  readonly #starts: AgentStarts;
  /** The kinds of evidence that the ends of all agents so far have in common; undefined before the first end. */
  #common: readonly TreesEvidence[] | undefined;
  #watchTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    private readonly options: ProcessHostOptions,
    private readonly parts: HostParts,
  ) {
    const { chosen, isolated, guardian, libc, descends, cookie } = parts;
    this.containment = chosen.containment;
    this.ownsProcess = options.ownsProcess ?? false;
    if (descends !== undefined) this.#descent = theDescent(descends);
    this.#descent?.enter(this);
    this.#sweeper = this.#descent?.sweeper ?? new Sweeper(undefined, (sweep) => this.#absorb(sweep));
    this.#pipes = new PipePool(records.pipesFolder(options.dataDir, options.workerId), libc);
    const starts = {
      cgroup: chosen.cgroup,
      namespaced: chosen.containment === 'namespace',
      cookie,
      prepare: isolated.prepare,
      guardian,
      turns: this.#turns,
      pipes: this.#pipes,
      endOrphans: async () => this.#descent?.endUnknown(ORPHANS_END_MS),
    };
    this.#starts = new AgentStarts(starts, (request, start) => this.#adopt(request, start));
    if (this.containment !== 'cgroup' || this.#descent !== undefined) this.#watchLater();
  }

  get cookie(): string {
    return this.parts.cookie;
  }

  get proofKey(): string {
    return this.parts.proofKey;
  }

  get reaped(): readonly ReapedWorker[] {
    return this.parts.reaped;
  }

  get guardian(): Guardian {
    return this.parts.guardian;
  }

  get isolation(): Isolation {
    return this.parts.isolated.isolation;
  }

  get grade(): Grade {
    const isByKernel = this.#descent !== undefined || this.containment === 'namespace';
    return isByKernel || this.isolation === 'user' ? 'kernel' : 'marks';
  }

  get containmentNote(): string | undefined {
    return this.parts.chosen.note;
  }

  get guardianRestarts(): number {
    return this.guardian.restarts;
  }

  get guardianPid(): number | undefined {
    return this.guardian.pid;
  }

  guardianAnswers(): Promise<boolean> {
    return this.guardian.answers();
  }

  onEscapee(escapee: Escapee): void {
    this.options.onEscapee?.(escapee);
  }

  agents(): AgentProcess[] {
    return [...this.#agents.values()].flatMap(({ agent }) => (this.#waiting.has(agent) ? [] : [agent]));
  }

  get outputWaits(): number {
    return this.#paces.output.waits + this.#paces.messages.waits;
  }

  armFence(silenceMs: number, since = performance.now()): void {
    this.guardian.armFence(silenceMs, since);
  }

  async spawn(request: SpawnRequest): Promise<AgentProcess> {
    return this.#start(request);
  }

  async startWaiting({ command, env, cwd }: WaitingRequest): Promise<WaitingProcess> {
    if (this.isolation === 'user')
      throw failure('ISOLATION', 'With isolation user no process is started ahead.');
    let onReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => (onReady = resolve));
    const agentId = `waiting-${(this.#ahead += 1)}`;
    const ignore = (): void => undefined;
    const heard = { onOutput: ignore, onMessage: ignore, onReady };
    const where = cwd === undefined ? {} : { cwd };
    const agent = await this.#start({
      agentId,
      command,
      shell: false,
      env,
      ...where,
      stdin: LATER,
      graceMs: 0,
      ...heard,
    });
    return new Waiting(agent, ready);
  }

  assign(waiting: WaitingProcess, request: AssignRequest): AgentProcess | undefined {
    this.#check(request);
    const deadline = startDeadline(request);
    if (!(waiting instanceof Waiting) || !waiting.isFree) return undefined;
    const { agent } = waiting;
    const held = this.#agents.get(agent.agentId);
    if (held === undefined) return undefined;
    this.#agents.delete(agent.agentId);
    this.#agents.set(request.agentId, held);
    this.#waiting.delete(agent);
    // No attempt replaces the cookies, as at every start.
    const { [COOKIE_VARIABLE]: _, [WORKER_COOKIE_VARIABLE]: __, ...env } = request.env;
    waiting.give({ ...request, env }, deadline);
    if (request.signal !== undefined) stopOnAbort(agent, request.signal, request.graceMs);
    return agent;
  }

  /** A start blocks the event loop for milliseconds, so many starts at once take turns with all other work. */
  #start(request: StartRequest): Promise<RunningAgent> {
    return this.#turns.run(() => {
      this.#check(request);
      const starting = this.#starts.start(request).finally(() => this.#starting.delete(request.agentId));
      this.#starting.set(request.agentId, starting);
      return starting;
    });
  }

  newInput(): Promise<InputFile> {
    return this.#pipes.newInput();
  }

  close({ keepProof = false } = {}): Promise<void> {
    this.#closing ??= this.#close(keepProof);
    return this.#closing;
  }

  #check({ agentId, signal }: Pick<SpawnRequest, 'agentId' | 'signal'>): void {
    if (this.#closing !== undefined)
      throw failure('CLOSED', `Agent ${agentId} was not started: the worker is closing.`);
    if (signal?.aborted === true)
      throw failure('ABORTED', `Agent ${agentId} was not started: it was stopped before.`, {
        evidence: { kind: 'not-started', afterMs: 0 },
      });
    if (!NAME.test(agentId))
      throw failure('OTHER', `The agent id ${JSON.stringify(agentId)} must match ${NAME}.`);
    if (this.#agents.has(agentId) || this.#starting.has(agentId))
      throw failure('DUPLICATE', `Agent ${agentId} runs already on this worker; its tree must end first.`);
  }

  /** Runs in the same turn of the event loop as the start or its report, so no exit can be missed. */
  #adopt(
    request: StartRequest,
    { process: started, cookie, cgroup, isolated, unapplied }: AgentStart,
  ): RunningAgent {
    const { agentId, signal } = request;
    const { pid, startTime } = started.stat;
    const inner = this.#treeOf(started.stat, cookie, cgroup);
    const namespaced =
      this.containment === 'namespace' ? new NamespaceTree({ inner, libc: this.parts.libc }) : undefined;
    const contained = namespaced ?? inner;
    const tree = isolated?.wrap(contained) ?? contained;
    const output = new AgentOutput(
      started,
      request,
      cookie,
      this.#paces,
      this.options.logCapBytes ?? DEFAULT_LOG_CAP_BYTES,
      {
        isIsolated: isolated !== undefined,
        ...(namespaced === undefined ? {} : { onInit: (init) => namespaced.begun(init) }),
      },
    );
    const agent = new RunningAgent(
      agentId,
      { pid, startTime, bootId: bootId() },
      unapplied,
      started.first,
      tree,
      output,
      request.graceMs,
      {
        isolation: this.isolation,
        killWaitMs: this.options.killWaitMs ?? DEFAULT_KILL_WAIT_MS,
        drainMs: this.options.drainMs ?? DEFAULT_DRAIN_MS,
        turns: this.#turns,
        onProved: (evidence) => {
          // The process may have been started under another id.
          this.#agents.delete(agent.agentId);
          this.#waiting.delete(agent);
          this.#common = TREES_EVIDENCE.filter(
            (kind) => evidence.includes(kind) && (this.#common?.includes(kind) ?? true),
          );
          this.guardian.ended(pid);
        },
      },
    );
    this.#agents.set(agentId, { agent, tree, inner });
    if (request.onReady !== undefined) this.#waiting.add(agent);
    this.guardian.started(started.stat);
    if (signal !== undefined) stopOnAbort(agent, signal, request.graceMs);
    return agent;
  }

  #treeOf(leader: ProcStat, cookie: string, cgroup: Cgroup | undefined): GroupTree | CgroupTree {
    const parts = { leader, cookie, sweeper: this.#sweeper, libc: this.parts.libc, descent: this.#descent };
    if (this.containment === 'namespace') return new GroupTree({ ...parts, isOutside: true });
    return cgroup === undefined ? new GroupTree(parts) : new CgroupTree({ ...parts, cgroup });
  }

  #absorb(sweep: Sweep): void {
    for (const { inner } of this.#agents.values()) inner.absorb(sweep);
  }

  /** Looks at running trees now and then: a process that was seen once stays known, even if it hides later. */
  #watchLater(): void {
    const often = this.#descent === undefined ? DEFAULT_WATCH_MS : DESCENT_WATCH_MS;
    const paceMs = Math.max(this.options.watchMs ?? often, this.#sweeper.lastPassMs / WATCH_SHARE);
    this.#watchTimer = setTimeout(() => {
      void this.#watch()
        .catch(() => undefined)
        .then(() => this.#closing ?? this.#watchLater());
    }, paceMs);
    this.#watchTimer.unref();
  }

  async #watch(): Promise<void> {
    if (this.#agents.size > 0) await this.#sweeper.sweep();
    await this.#descent?.look();
  }

  async #close(keepProof: boolean): Promise<void> {
    clearTimeout(this.#watchTimer);
    await Promise.allSettled(this.#starting.values());
    const agents = [...this.#agents.values()].map(({ agent }) => agent);
    await Promise.all(agents.map((agent) => agent.stop({ mode: 'immediate', graceMs: 0 })));
    await this.#pipes.close();
    const clean = this.#agents.size === 0 && this.#removeCgroup();
    for (const agent of agents) agent.abandon();
    // The trees stay unproved, and nobody looks for them here any more.
    if (!clean && this.#descent !== undefined) for (const { inner } of this.#agents.values()) inner.dispose();
    this.#descent?.leave(this);
    // Before the guardian and the record are removed: from then on nothing else says that the trees are dead.
    const isTold = !clean || !keepProof || this.#keepProof();
    await this.guardian.end(clean ? 'none' : 'kill');
    if (clean) await this.parts.isolated.close?.();
    if (clean && isTold) await records.removeRecord(this.options.dataDir, this.options.workerId);
  }

  /** False where the proof cannot be written: then the record stays, and the next worker here finds out by itself. */
  #keepProof(): boolean {
    const { dataDir, workerId } = this.options;
    try {
      const { containment, proofKey } = this;
      const evidence = this.#common?.length === 0 ? (['sweep-empty'] as const) : this.#common;
      const proof = {
        workerId,
        containment,
        processes: [],
        by: 'worker' as const,
        ...(evidence === undefined ? {} : { evidence }),
      };
      writeProof(proofPath(dataDir, workerId), proof, proofKey);
      return true;
    } catch {
      return false;
    }
  }

  #removeCgroup(): boolean {
    try {
      this.parts.chosen.cgroup?.kill(this.parts.libc);
      return this.parts.chosen.cgroup?.remove() ?? true;
    } catch {
      return false;
    }
  }
}

function stopOnAbort(agent: RunningAgent, signal: AbortSignal, graceMs: number): void {
  const stop = (): void => void agent.stop({ mode: 'graceful', graceMs });
  // The abort may have come during the start, and the event does not come again.
  if (signal.aborted) return stop();
  signal.addEventListener('abort', stop, { once: true });
  void agent.ended.then(() => signal.removeEventListener('abort', stop));
}
