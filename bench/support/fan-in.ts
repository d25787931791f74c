import { readFileSync } from 'node:fs';
import { ownPoolOf, type AgentJob } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { AgentRunner, AgentSlots, type OutcomeReplay, createProcessHost } from '#libs/spawner';
import { node, spec } from '../../test/support/specs';
import { readyNodes } from './engine';
import { longestStep } from './server-counts';

/** Kibibytes of each parent's result: just below the bound. */
export const RESULT_KIB = 255;
const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const RESULT = { text: 'x'.repeat(RESULT_KIB * 1024 - 16) };
const AT_ONCE = 16;

/** The agent's program: counts its input and keeps both ends of it, in bounded memory. */
const COUNT = `
let bytes = 0, first = '', last = '';
process.stdin.on('data', (chunk) => {
  bytes += chunk.length;
  if (first.length < 64) first += chunk.toString('latin1', 0, 64);
  last = (last + chunk.toString('latin1')).slice(-64);
});
process.stdin.on('end', () =>
  require('fs').writeSync(3, JSON.stringify({ type: 'result', value: { bytes, first: first.slice(0, 64), last } }) + '\\n'));
`;

export interface FanIn {
  readonly executionId: string;
  /** The node to which all others lead, ready to be claimed. */
  readonly job: AgentJob;
}

/** An execution whose last node is ready: every parent is done, with a result of RESULT_KIB. */
export async function prepareFanIn(life: LifecycleService, parents: number): Promise<FanIn> {
  const ids = Array.from({ length: parents }, (_, i) => `p${i}`);
  const pool = ownPoolOf(WORKER);
  const run = { command: [process.execPath, '-e', COUNT], env: {}, shell: false };
  const made = spec([...ids.map((one) => node(one, { pool })), node('sink', { pool, dependsOn: ids, run })], {
    name: 'fan-in',
  });
  const { id } = await life.executions.create(made, { start: true, canonical: '' });
  const ready = await readyNodes(life, id);
  let job: AgentJob | undefined;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let entry; (entry = ready.pop()) !== undefined;) {
        const claim = await life.agents.claim(entry, WORKER, 't');
        if (!claim.claimed) throw new Error(`a claim was refused: ${claim.why}`);
        await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
        const { entries } = await life.agents.finish(claim.fence, { state: 'completed', result: RESULT });
        job ??= entries[0];
      }
    }),
  );
  if (job === undefined) throw new Error('the last node did not become ready');
  return { executionId: id, job };
}

/** The load on worker and server while the last node ran. */
export interface FanInRun {
  /** From before the claim until its end was stored. */
  readonly ms: number;
  readonly longestScriptMs: number;
  readonly longestCommandMs: number;
  /** The largest gap between two ticks of a timer of 10 ms, less those 10. */
  readonly longestLoopMs: number;
  /** The largest growth of the process that played the worker. */
  readonly rssMiB: number;
  readonly result: { readonly bytes: number; readonly first: string; readonly last: string };
}

/** Runs the last node as a worker would, with a process of its own, and measures. */
export async function runFanIn(life: LifecycleService, fanIn: FanIn, dataDir: string): Promise<FanInRun> {
  const host = await createProcessHost({ workerId: WORKER, dataDir, containment: 'marks', reap: false });
  const slots = new AgentSlots(life, { workerId: WORKER, graceMs: 500 });
  const ends: Pick<OutcomeReplay, 'store'> = {
    store: async (fence, outcome) => life.agents.finish(fence, outcome),
  };
  const runner = new AgentRunner(
    life,
    host,
    slots,
    { ends },
    {
      workerId: WORKER,
      workDir: dataDir,
      logDir: dataDir,
      graceMs: 500,
    },
  );
  const before = residentMiB();
  let most = before;
  let longestLoopMs = 0;
  let tickAt = performance.now();
  const ticks = setInterval(() => {
    const now = performance.now();
    longestLoopMs = Math.max(longestLoopMs, now - tickAt - 10);
    tickAt = now;
    most = Math.max(most, residentMiB());
  }, 10);
  try {
    const begun = performance.now();
    const { commandMs, scriptMs } = await longestStep(life.valkey.redis, async () => runner.run(fanIn.job));
    const ms = performance.now() - begun;
    const { state, error } = await life.agents.get(fanIn.job.agentId);
    if (state !== 'completed') throw new Error(`the agent ${state}: ${JSON.stringify(error)}`);
    const { result } = await life.executions.node(fanIn.executionId, 'sink');
    return {
      ms,
      longestScriptMs: scriptMs,
      longestCommandMs: commandMs,
      longestLoopMs,
      rssMiB: most - before,
      result: result as FanInRun['result'],
    };
  } finally {
    clearInterval(ticks);
    await host.close();
  }
}

function residentMiB(): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024;
}
