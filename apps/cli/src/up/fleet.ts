import { join } from 'node:path';
import type { DataDir } from '../session/data-dir';
import type { StateServer } from './local-server';
import type { ReadyMessage } from './child-program';
import { SupervisedProgram, type SupervisorTuning } from './supervised-program';

export interface FleetPlan {
  readonly dataDir: DataDir;
  readonly server: StateServer;
  readonly env: NodeJS.ProcessEnv;
  readonly workers: number;
  readonly programs: { readonly orchestrator: string; readonly worker: string };
  /** Bound on a worker's drain and on the orchestrator's. Milliseconds. */
  readonly workerStopMs: number;
  readonly orchestratorStopMs: number;
  readonly say: (line: string) => void;
  /** The orchestrator is ready, at the start and after each restart. */
  readonly onOrchestrator: (ready: ReadyMessage) => void;
  readonly tuning?: SupervisorTuning;
}

/** Bound on the state server's own stop. Milliseconds. */
const SERVER_STOP_MS = 15_000;

/** The processes of one `belay up`: started in the order they need each other, drained in the other. */
export class Fleet {
  private readonly orchestrator: SupervisedProgram;
  private readonly workers: SupervisedProgram[];
  private draining: Promise<boolean> | undefined;

  constructor(private readonly plan: FleetPlan) {
    const { dataDir, env, programs, say, onOrchestrator, tuning } = plan;
    const spec = (name: string, program: string): SupervisedProgram['spec'] => ({
      name,
      program,
      env,
      logFile: join(dataDir.logs, `${name.replace(' ', '-')}.log`),
    });
    this.orchestrator = new SupervisedProgram(
      spec('orchestrator', programs.orchestrator),
      say,
      onOrchestrator,
      tuning,
    );
    this.workers = Array.from(
      { length: plan.workers },
      (_, index) =>
        new SupervisedProgram(spec(`worker ${index + 1}`, programs.worker), say, undefined, tuning),
    );
  }

  /** Resolves when all are ready; what each said. Rejects with the first failure; then `drain` is still due. */
  async start(): Promise<{ url: string | undefined; workerIds: string[] }> {
    const { url } = await this.orchestrator.start();
    // All of them settle first: the drain after a failure must not meet one in the middle of its start.
    const starts = await Promise.allSettled(this.workers.map(async (worker) => await worker.start()));
    const failed = starts.find((start) => start.status === 'rejected');
    if (failed !== undefined) throw failed.reason as Error;
    return {
      url,
      workerIds: starts.flatMap((start) => (start as { value?: ReadyMessage }).value?.workerId ?? []),
    };
  }

  /** Workers first, as they still need the orchestrator and the state; then it; then the server. True when clean. */
  drain(): Promise<boolean> {
    this.draining ??= this.drainOnce();
    return this.draining;
  }

  /** What still runs, for the one who asks a second time. */
  waitingFor(): string[] {
    return [...this.workers, this.orchestrator].flatMap(({ spec, pid }) =>
      pid === undefined ? [] : [`${spec.name} (pid ${pid})`],
    );
  }

  /** SIGKILL to every process that was forked here. The guardians of the workers end what the agents left. */
  force(): void {
    for (const program of [...this.workers, this.orchestrator]) program.force();
  }

  private async drainOnce(): Promise<boolean> {
    const { say, server, workerStopMs, orchestratorStopMs } = this.plan;
    const results = await Promise.all(
      this.workers.map(async (worker) => {
        const wasRunning = worker.pid !== undefined;
        const result = await worker.stop(workerStopMs);
        if (wasRunning)
          say(`${worker.spec.name} ${result === 'drained' ? 'drained' : 'stopped, not drained'}`);
        return result;
      }),
    );
    const hadOrchestrator = this.orchestrator.pid !== undefined;
    results.push(await this.orchestrator.stop(orchestratorStopMs));
    if (hadOrchestrator) say('orchestrator stopped');
    const isServerDown = await bounded(server.stop(), SERVER_STOP_MS);
    say(isServerDown ? 'state server closed' : 'state server did not close in time');
    return isServerDown && results.every((result) => result === 'drained');
  }
}

/** Whether it resolved in time; a rejection counts as not. */
async function bounded(work: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      work.then(
        () => true,
        () => false,
      ),
      new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(false), ms);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
