import type { DispatchEntry } from '#libs/contracts';
import type { FinishResult, LifecycleService } from '#libs/lifecycle';

/** One agent's whole life, without a process: claimed, started, finished. */
export async function driveAgent(life: LifecycleService, entry: DispatchEntry): Promise<FinishResult> {
  const claim = await life.agents.claim(entry, 'wrk_bench', 't');
  if (!claim.claimed) throw new Error(`a claim was refused: ${claim.why}`);
  await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  return life.agents.finish(claim.fence, { state: 'completed', exitCode: 0 });
}

/** The ready nodes, found in the bounded steps of the server. */
export async function readyNodes(life: LifecycleService, executionId: string): Promise<DispatchEntry[]> {
  const ready: DispatchEntry[] = [];
  for (let more = true; more;) {
    const step = await life.executions.advance(executionId);
    ready.push(...step.entries);
    more = step.more;
  }
  return ready;
}

/** Runs a started execution to its end in this process, `concurrency` nodes at a time, without any agent's own time. */
export async function driveExecution(
  life: LifecycleService,
  executionId: string,
  concurrency: number,
): Promise<void> {
  const ready = await readyNodes(life, executionId);
  let running = 0;
  await new Promise<void>((resolve, reject) => {
    const pump = (): void => {
      for (let entry; running < concurrency && (entry = ready.shift()) !== undefined;) {
        running++;
        void next(entry).catch(reject);
      }
    };
    const next = async (entry: DispatchEntry): Promise<void> => {
      const end = await driveAgent(life, entry);
      ready.push(...end.entries);
      if (end.more) ready.push(...(await readyNodes(life, executionId)));
      running--;
      if (end.state === 'completed') resolve();
      else if (running === 0 && ready.length === 0) reject(new Error('nothing is ready, and it is not done'));
      else pump();
    };
    pump();
  });
}
