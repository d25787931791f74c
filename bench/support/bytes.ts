import { agentIdOf, type NodeSpec, type StopReport } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { node, spec } from '../../test/support/specs';
import { readyNodes } from './engine';

/** A worker's report of a one-process tree that ended by itself. */
const REPORT: StopReport = {
  containment: 'cgroup',
  proved: true,
  processes: [{ pid: 12_345, startTime: '123456', command: 'sh' }],
  signals: [],
  evidence: [
    { kind: 'exit', pid: 12_345, afterMs: 0 },
    { kind: 'cgroup-empty', afterMs: 1 },
    { kind: 'descent-empty', afterMs: 1 },
  ],
  survivors: [],
  escalated: false,
  provedAfterMs: 1,
} as unknown as StopReport;

/** Bytes by kind of key, each divided by the number of nodes. */
export interface BytesLeft {
  readonly perNode: number;
  readonly byKind: Readonly<Record<string, number>>;
}

/** Each node waits for one of the two before it. */
const nodeOf = (i: number): NodeSpec =>
  node(`n${i}`, {
    dependsOn: i === 0 ? [] : [`n${i - 1 - (i % 3 === 0 ? 1 : 0)}`],
    run: { command: ['sh', '-c', 'true'], env: {}, shell: false },
    backoff: { type: 'exponential', delayMs: 1_000, maxMs: 30_000, jitter: 0.5 },
  });

/**
 * Bytes that completed nodes leave on an otherwise empty server: `executions` of `nodes` each, every agent with a proved report
 * and no output. All keys count, by MEMORY USAGE, events too.
 */
export async function bytesLeft(
  life: LifecycleService,
  executions: number,
  nodes: number,
): Promise<BytesLeft> {
  const { valkey } = life;
  for (let i = 0; i < executions; i++) {
    const made = spec(
      Array.from({ length: nodes }, (_, n) => nodeOf(n)),
      { name: 'bytes', labels: { team: 'data' } },
    );
    const { id } = await life.executions.create(made, { start: true, canonical: '', actor: 'api' });
    const ready = await readyNodes(life, id);
    for (let entry; (entry = ready.shift()) !== undefined;) {
      const claim = await life.agents.claim(
        entry,
        'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ',
        `token-${entry.agentId}`,
      );
      if (!claim.claimed) throw new Error(`a claim was refused: ${claim.why}`);
      await life.agents.started(claim.fence, { pid: 12_345, pidStartTime: '123456', containment: 'cgroup' });
      const outcome = { state: 'completed', exitCode: 0, costUsd: 0, report: REPORT } as const;
      const end = await life.agents.finish(claim.fence, outcome);
      ready.push(...end.entries);
    }
    const { state } = await life.executions.get(id);
    if (state !== 'completed') throw new Error(`${id} is ${state}, and its node ${agentIdOf(id, 0, 1)}`);
  }
  return measure(valkey.redis, executions * nodes);
}

async function measure(redis: LifecycleService['valkey']['redis'], nodes: number): Promise<BytesLeft> {
  const byKind: Record<string, number> = {};
  let total = 0;
  for (const key of await redis.keys('*')) {
    const bytes = Number(await redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '0'));
    const kind = key
      .replace(/^\{[^}]*\}:/, '')
      .replace(/exe_\w+/, '<id>')
      .replace(/^log:.*/, 'log:<agent>');
    byKind[kind] = (byKind[kind] ?? 0) + bytes / nodes;
    total += bytes;
  }
  for (const kind of Object.keys(byKind)) byKind[kind] = Math.round(byKind[kind] ?? 0);
  return { perNode: Math.round(total / nodes), byKind };
}
