import { join } from 'node:path';
import type { DataDir } from '../session/data-dir';
import { formatDuration } from '../text/format';
import type { StateServer } from './local-server';
import type { ReadyMessage } from './child-program';
import { SupervisedProgram, type StopResult, type SupervisorTuning } from './supervised-program';
import { SupervisedServer } from './supervised-server';

export interface FleetPlan {
  readonly dataDir: DataDir;
  readonly server: StateServer;
  readonly env: NodeJS.ProcessEnv;
  readonly workers: number;
  readonly programs: { readonly orchestrator: string; readonly worker: string };
  /** The bound on the whole drain of the workers and the orchestrator: processes left after it are killed. Milliseconds. */
  readonly drainMs: number;
  /** The bound on the orchestrator's part of the drain. Milliseconds. */
  readonly orchestratorStopMs: number;
  /** The interval of lines that name what the drain waits for. Milliseconds. */
  readonly tellMs?: number;
  /** Appended to the names of the logs, where another `up` writes the plain ones. */
  readonly logSuffix?: string;
  readonly say: (line: string) => void;
  /** The orchestrator is ready, at the start and after each restart. */
  readonly onOrchestrator: (ready: ReadyMessage) => void;
  readonly tuning?: SupervisorTuning;
}

/** The orchestrator's least time, even when the workers took all of it. Milliseconds. */
const LEAST_MS = 3_000;
const TELL_MS = 10_000;

/** The processes of one `belay up`: started in the order of their dependencies, drained in reverse order. */
export class Fleet {
  private readonly orchestrator: SupervisedProgram;
  private readonly workers: SupervisedProgram[];
  private readonly server: SupervisedServer;
  private draining: Promise<boolean> | undefined;
  private serverIsDown = false;

  constructor(private readonly plan: FleetPlan) {
    const { dataDir, env, programs, say, onOrchestrator, tuning } = plan;
    this.server = new SupervisedServer(plan.server, say).keep();
    const spec = (name: string, program: string): SupervisedProgram['spec'] => ({
      name,
      program,
      env,
      logFile: join(dataDir.logs, `${name.replace(' ', '-')}${plan.logSuffix ?? ''}.log`),
    });
    // Workers run agents and do not need the token.
    const { BELAY_TOKEN: _, ...ofWorkers } = env;
    this.orchestrator = new SupervisedProgram(
      spec('orchestrator', programs.orchestrator),
      say,
      onOrchestrator,
      tuning,
    );
    this.workers = Array.from(
      { length: plan.workers },
      (_, index) =>
        new SupervisedProgram(
          { ...spec(`worker ${index + 1}`, programs.worker), env: ofWorkers },
          say,
          undefined,
          tuning,
        ),
    );
  }

  /** Resolves with their messages when all are ready. Rejects with the first failure; the caller must then `drain`. */
  async start(): Promise<{ url: string | undefined; workerIds: string[] }> {
    const { url } = await this.orchestrator.start();
    // All of them settle first: the drain after a failure must not meet a process in the middle of its start.
    const starts = await Promise.allSettled(this.workers.map(async (worker) => await worker.start()));
    const failed = starts.find((start) => start.status === 'rejected');
    if (failed !== undefined) throw failed.reason as Error;
    return {
      url,
      workerIds: starts.flatMap((start) => (start as { value?: ReadyMessage }).value?.workerId ?? []),
    };
  }

  /**
   * Drains the workers first, since they still need the orchestrator and the state; then the orchestrator; then the server.
   * True when clean.
   */
  drain(): Promise<boolean> {
    this.draining ??= this.drainOnce();
    return this.draining;
  }

  /** The services that still run, for a person who asks a second time. */
  waitingFor(): string[] {
    const programs = [...this.workers, this.orchestrator].flatMap(({ spec, pid }) =>
      pid === undefined ? [] : [`${spec.name} (pid ${pid})`],
    );
    if (this.serverIsDown || (programs.length > 0 && !this.server.isComing)) return programs;
    return [...programs, this.server.describe()];
  }

  /** SIGKILL to every process that was forked here. The guardians of the workers end the agents that are left. */
  force(): void {
    for (const program of [...this.workers, this.orchestrator]) program.force();
    // While another process runs the server is still needed: it stores the agents' ends.
    if ([...this.workers, this.orchestrator].every(({ pid }) => pid === undefined)) this.server.force();
  }

  private async drainOnce(): Promise<boolean> {
    const { say, drainMs, orchestratorStopMs, tellMs = TELL_MS } = this.plan;
    const deadline = performance.now() + drainMs;
    const leftMs = (): number => Math.max(LEAST_MS, deadline - performance.now());
    const telling = setInterval(() => {
      const waiting = this.waitingFor().join(', ');
      const left = deadline - performance.now();
      const bound = left > 0 ? `. Whatever still runs in ${formatDuration(left)} will be killed` : '';
      if (waiting !== '') say(`waiting for ${waiting}${bound}`);
    }, tellMs);
    // From here on no submitted work would run.
    this.orchestrator.tell({ type: 'close-admission' });
    try {
      const results = await Promise.all(
        this.workers.map(async (worker) => {
          const wasRunning = worker.pid !== undefined;
          const result = await worker.stop(drainMs);
          if (wasRunning) say(`${worker.spec.name} ${OUTCOMES[result]}`);
          return result;
        }),
      );
      const hadOrchestrator = this.orchestrator.pid !== undefined;
      const result = await this.orchestrator.stop(Math.min(orchestratorStopMs, leftMs()));
      if (hadOrchestrator) say(result === 'killed' ? 'orchestrator was killed' : 'orchestrator stopped');
      // Only now: the drained processes have stored their ends in it.
      const isServerDown = await this.server.stop();
      this.serverIsDown = true;
      if (isServerDown && !this.server.isLost) say('state server closed');
      return isServerDown && [...results, result].every((one) => one === 'drained');
    } finally {
      clearInterval(telling);
    }
  }
}

const OUTCOMES: Readonly<Record<StopResult, string>> = {
  drained: 'drained',
  forced: 'stopped, not drained',
  killed: 'was killed; its guardian ends its agents',
};
