import type { DispatchEntry } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import fc from 'fast-check';
import type { AgentOutcome, Claim } from './agent-store.types';
import { advanceAll, createExecution, node, spec, upstreamOf, useLife } from '../../../test/support/life';
import { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;
const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const FAILED: AgentOutcome = { state: 'failed', reason: 'error', error: { code: 'EXIT', message: 'no' } };
const again = (retryId: string, force = false) => ({ retryId, actor: 'me', force });

useLife((rig) => ({ valkey, life } = rig));

async function create(
  nodes: Parameters<typeof spec>[0],
  over: Parameters<typeof spec>[1] = {},
): Promise<string> {
  return createExecution(life, spec(nodes, over));
}

async function claim(job: DispatchEntry): Promise<Extract<Claim, { claimed: true }>> {
  const granted = await life.agents.claim(job, WORKER, `token-${job.agentId}`);
  if (!granted.claimed) throw new Error(`claim refused: ${granted.why}`);
  await life.agents.started(granted.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  return granted;
}

/** The entries that became ready by the attempt's end. */
async function run(job: DispatchEntry, outcome: AgentOutcome): Promise<DispatchEntry[]> {
  const { fence } = await claim(job);
  return [...(await life.agents.finish(fence, outcome)).entries];
}

const statesOf = async (id: string): Promise<Record<string, string>> =>
  Object.fromEntries((await life.executions.nodes(id)).items.map((n) => [n.id, n.state]));

it('R33 a first attempt waits for its delay, also after a retry by hand; the next ones for their backoff alone', async () => {
  const id = await create([
    node('a', { delayMs: 700, maxAttempts: 2 }),
    node('b', { dependsOn: ['a'], delayMs: 90 }),
  ]);
  const [first] = await advanceAll(life, id);
  expect(first).toMatchObject({ nodeId: 'a', attempt: 1, delayMs: 700 });
  const [second] = await run(first!, { ...FAILED, retryInMs: 5 });
  expect(second).toMatchObject({ attempt: 2, delayMs: 5 });
  await run(second!, FAILED);
  await advanceAll(life, id);
  await life.executions.retry(id, again('r1'));
  const [third] = await advanceAll(life, id);
  expect(third).toMatchObject({ attempt: 3, delayMs: 700 });
  expect(await run(third!, { state: 'completed' })).toMatchObject([{ nodeId: 'b', attempt: 1, delayMs: 90 }]);
});

describe('R40 an execution that failed for good is retried by hand', () => {
  it('R38 stopped by its budget goes on with a larger one, and its spent cost stays counted', async () => {
    const id = await create([node('a'), node('b', { dependsOn: ['a'] })], { maxCostUsd: 1 });
    const [a] = await advanceAll(life, id);
    const { fence } = await claim(a!);
    await life.agents.finish(fence, { state: 'completed', costUsd: 1.5 });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopped',
      reason: 'budget_exceeded',
      costUsd: 1.5,
    });
    await expect(life.executions.retry(id, { ...again('r1'), maxCostUsd: 1.5 })).rejects.toMatchObject({
      code: 'BUDGET_SPENT',
      message: expect.stringContaining('has spent 1.5 US dollars'),
      details: { costUsd: 1.5 },
    });
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', epoch: 1, maxCostUsd: 1 });
    await life.executions.retry(id, { ...again('r1'), maxCostUsd: 2 });
    const [b] = await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({ state: 'running', maxCostUsd: 2, costUsd: 1.5 });
    const second = await claim(b!);
    await life.agents.finish(second.fence, { state: 'failed', reason: 'error', costUsd: 0.75 });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({ costUsd: 2.25 });
  });

  it('R38 one that its budget of tokens stopped goes on with a larger one', async () => {
    const id = await create([node('a'), node('b', { dependsOn: ['a'] })], { maxTokens: 10 });
    const { fence } = await claim((await advanceAll(life, id))[0]!);
    await life.agents.finish(fence, { state: 'completed', tokens: 15 });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', reason: 'budget_exceeded' });
    await expect(life.executions.retry(id, { ...again('r1'), maxTokens: 15 })).rejects.toMatchObject({
      code: 'BUDGET_SPENT',
      message: expect.stringContaining('has spent 15 tokens'),
      details: { tokens: 15 },
    });
    // A refused budget leaves the other one as it was.
    await expect(
      life.executions.retry(id, { ...again('r1'), maxCostUsd: 5, maxTokens: 3 }),
    ).rejects.toMatchObject({ code: 'BUDGET_SPENT' });
    expect(await life.executions.get(id)).not.toHaveProperty('maxCostUsd');
    await life.executions.retry(id, { ...again('r1'), maxTokens: 16 });
    const second = await claim((await advanceAll(life, id))[0]!);
    expect(await life.agents.report(second.fence, { tokens: 1 })).toEqual({ overBudget: false });
    expect(await life.agents.report(second.fence, { tokens: 2 })).toEqual({ overBudget: true });
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopping', tokens: 17, maxTokens: 16 });
  });

  it('completed nodes keep their results, the others begin again, with attempts and deadline counted anew', async () => {
    const id = await create(
      [
        node('a'),
        node('b', { dependsOn: ['a'], maxAttempts: 2 }),
        node('c', { dependsOn: ['b'] }),
        node('d', { dependsOn: ['a'] }),
      ],
      { timeoutMs: 60_000 },
    );
    const [a] = await advanceAll(life, id);
    const [b, d] = await run(a!, { state: 'completed', result: { from: 'a' } });
    await run(d!, { state: 'completed' });
    await run(b!, FAILED);
    await advanceAll(life, id);
    const before = await life.executions.get(id);
    expect(before).toMatchObject({ state: 'failed', epoch: 1, error: { nodeId: 'b' } });
    const deadlines = valkey.keys.shard(valkey.keys.tagOf(id), 'deadlines');
    expect(await valkey.redis.zscore(deadlines, id)).toBeNull();

    const first = await life.executions.retry(id, again('r1'));
    expect(first).toEqual({ state: 'running', epoch: 2 });
    // The reply was lost: a repeat of the same retry changes nothing.
    expect(await life.executions.retry(id, again('r1'))).toEqual(first);
    await expect(life.executions.retry(id, again('r2'))).rejects.toMatchObject({
      code: 'INVALID_TRANSITION',
      from: 'running',
    });
    expect(await valkey.redis.zscore(deadlines, id)).not.toBeNull();
    expect(await valkey.redis.pttl(valkey.keys.execution(id, 'results'))).toBe(-1);
    // An order placed before the retry and heard after it covers the work from before. An order placed after the
    // retry covers the retry.
    const { born } = await valkey.redis.hgetall(valkey.keys.execution(id));
    expect(
      await life.executions.stop(id, { reason: 'killswitch', orderId: 'ord_1', reach: Number(born) - 1 }),
    ).toMatchObject({ state: 'running', already: true, spared: true });
    const [ready, ...more] = await advanceAll(life, id);
    expect(more).toEqual([]);
    expect(ready).toMatchObject({ nodeId: 'b', attempt: 2 });
    expect(await statesOf(id)).toEqual({ a: 'completed', b: 'ready', c: 'pending', d: 'completed' });
    const record = await life.executions.get(id);
    expect(record).toMatchObject({
      state: 'running',
      epoch: 2,
      nodes: { completed: 2, failed: 0, pending: 1 },
    });
    for (const gone of ['error', 'reason', 'stoppedAt']) expect(record).not.toHaveProperty(gone);

    const granted = await claim(ready!);
    expect(granted).toMatchObject({
      previousId: `agt_${id.slice(4)}-1-1`,
      node: { maxAttempts: 2, priorAttempts: 1 },
    });
    expect(await upstreamOf(life, id, granted)).toEqual({ a: { from: 'a' } });
    const { entries } = await life.agents.finish(granted.fence, { state: 'completed' });
    expect(entries.map(({ nodeId }) => nodeId)).toEqual(['c']);
    await run(entries[0]!, { state: 'completed' });
    expect(await life.executions.get(id)).toMatchObject({ state: 'completed', epoch: 2 });
    await expect(life.executions.retry(id, again('r3'))).rejects.toMatchObject({ from: 'completed' });
    const events = await life.executions.events(id, '0-0');
    expect(events.map((event) => event.seq)).toEqual(events.map((_, i) => i + 1));
  });

  it('is refused while an attempt of it may still run, unless forced; a latch refuses it too', async () => {
    const id = await create([node('a')], { idempotencyKey: 'retried' });
    const [a] = await advanceAll(life, id);
    const { fence } = await claim(a!);
    await life.executions.stop(id, { reason: 'user_abort' });
    await life.executions.transition(id, 'failed', { from: 'stopping' });
    await expect(life.executions.retry(id, again('r1'))).rejects.toMatchObject({
      code: 'NOT_PROVED',
      message: expect.stringContaining('still counts as running') as string,
    });
    await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true });
    await expect(life.executions.retry(id, again('r1'))).rejects.toMatchObject({
      code: 'NOT_PROVED',
      message: expect.stringContaining('never seen dead') as string,
      details: { agentId: a!.agentId, count: 1 },
    });
    const tag = valkey.keys.tagOf(id);
    const latch = { id: 'lat_1', kind: 'latch', scope: { type: 'all' }, by: 'me', engagedAt: 1 };
    const copy = async (version: number, items: object[]) =>
      valkey.scripts.json('copyLatches', valkey.keys.shard(tag, 'latches'), [
        tag,
        version,
        JSON.stringify(items),
        500,
      ]);
    await copy(1, [latch]);
    await expect(life.executions.retry(id, again('r1', true))).rejects.toMatchObject({ code: 'LATCHED' });
    await copy(2, []);
    expect(await life.executions.retry(id, again('r1', true))).toEqual({ state: 'running', epoch: 2 });
    expect(await valkey.redis.pttl(valkey.keys.shard(tag, 'idem:retried'))).toBe(-1);
    await expect(life.executions.retry('exe_01HZZZZZZZZZZZZZZZZZZZZZZZ', again('x'))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    const [next] = await advanceAll(life, id);
    await run(next!, { state: 'completed' });
    expect(await life.executions.get(id)).toMatchObject({ state: 'completed' });
  });

  it('R51 an attempt that a person wrote off blocks nothing any more, and the person is reported once', async () => {
    const id = await create([node('a')]);
    const [job] = await advanceAll(life, id);
    const { fence } = await claim(job!);
    await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true });
    await expect(life.executions.retry(id, again('r1'))).rejects.toMatchObject({ code: 'NOT_PROVED' });
    expect((await life.agents.unproved()).map((agent) => agent.id)).toContain(fence.agentId);
    for (let times = 0; times < 2; times++)
      await life.agents.writeOff(fence.agentId, { orderId: 'ord_1', by: 'ann' });
    expect((await life.agents.unproved()).map((agent) => agent.id)).not.toContain(fence.agentId);
    const told = (await life.executions.events(id, '0-0')).filter(({ type }) => type === 'agent.written-off');
    expect(told).toMatchObject([{ agentId: fence.agentId, actor: 'ann', data: { orderId: 'ord_1' } }]);
    // Nobody saw the attempt dead, and its record does not say so.
    expect(await life.agents.get(fence.agentId)).not.toHaveProperty('report');
    expect(await life.executions.retry(id, again('r1'))).toEqual({ state: 'running', epoch: 2 });
  });

  it('R50 each shard counts beginnings: an execution, each claim, each retry; other shards stay as they are', async () => {
    const before = await life.agents.beginnings();
    expect(Object.keys(before).sort()).toEqual(valkey.keys.tags().toSorted());
    const id = await create([node('a')]);
    const tag = valkey.keys.tagOf(id);
    const begun = async () => (await life.agents.beginnings([tag]))[tag]! - before[tag]!;
    expect(await begun()).toBe(1);
    const [job] = await advanceAll(life, id);
    const { fence, born } = await claim(job!);
    expect(await begun()).toBe(2);
    expect(born).toBe(before[tag]! + 2);
    await life.agents.finish(fence, FAILED);
    await life.executions.retry(id, again('r1'));
    expect(await begun()).toBe(3);
    expect(await life.agents.beginnings()).toEqual({ ...before, [tag]: before[tag]! + 3 });
  });

  it('names how many may still run', async () => {
    const id = await create([node('a'), node('b')], { onFailure: 'continue' });
    for (const job of await advanceAll(life, id)) {
      const { fence } = await claim(job);
      await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true });
    }
    await expect(life.executions.retry(id, again('r'))).rejects.toMatchObject({
      message: expect.stringContaining('and 1 more of') as string,
    });
  });

  it('goes in bounded steps; a stop in between ends it, and it can be retried again', async () => {
    const ids = Array.from({ length: 60 }, (_, i) => `n${i}`);
    const id = await create(ids.map((name) => node(name)));
    await life.executions.stop(id, { reason: 'user_abort' });
    await advanceAll(life, id);
    await life.executions.retry(id, again('r1'));
    const step = await life.executions.advance(id, 20);
    expect(step).toMatchObject({ state: 'running', more: true, entries: [] });
    expect((await life.executions.get(id)).nodes).toMatchObject({ pending: 20, cancelled: 40 });
    await life.executions.stop(id, { reason: 'user_abort' });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', nodes: { cancelled: 60 } });
    await life.executions.retry(id, again('r2'));
    expect(await advanceAll(life, id, 20)).toHaveLength(60);
  });

  it('R28 an attempt gets what the one before it kept, and learns whether that was lost', async () => {
    const id = await create([node('a', { maxAttempts: 9 })]);
    const [one] = await advanceAll(life, id);
    const first = await claim(one!);
    expect(first).toMatchObject({ isRecovery: false });
    expect(first).not.toHaveProperty('lastCheckpoint');
    await life.agents.report(first.fence, { checkpoint: { row: [] } });
    const lost = await life.agents.finish(first.fence, {
      state: 'failed',
      reason: 'worker_lost',
      retryInMs: 0,
    });
    const second = await claim(lost.entries[0]!);
    expect(second).toMatchObject({ isRecovery: true, lastCheckpoint: { row: [] } });
    const failed = await life.agents.finish(second.fence, { ...FAILED, retryInMs: 0 });
    // The attempt said no checkpoint of its own: the one that it was given is handed on.
    expect(await claim(failed.entries[0]!)).toMatchObject({ isRecovery: false, lastCheckpoint: { row: [] } });
  });
});

it('any graph, any ends, any retries: a node completes once, after its dependencies, with its result kept', async () => {
  const graphs = fc.integer({ min: 1, max: 7 }).chain((size) =>
    fc.record({
      edges: fc.array(fc.tuple(fc.nat(size - 1), fc.nat(size - 1)), { maxLength: 12 }),
      size: fc.constant(size),
      onFailure: fc.constantFrom('stop' as const, 'continue' as const),
      allowed: fc.nat(size),
      // How each attempt ends, in that order. All later ones complete.
      ends: fc.array(fc.constantFrom('completed', 'failed', 'killed', 'stop'), { maxLength: 12 }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(graphs, async ({ edges, size, onFailure, allowed, ends }) => {
      const dependsOn = (i: number): string[] => [
        ...new Set(edges.filter(([from, to]) => to === i && from < to).map(([from]) => `n${from}`)),
      ];
      const nodes = Array.from({ length: size }, (_, i) =>
        node(`n${i}`, { dependsOn: dependsOn(i), allowFailure: i === allowed }),
      );
      const id = await create(nodes, { onFailure });
      const results = new Map<string, string>();
      const left = [...ends];
      for (let round = 0; ; round++) {
        for (let jobs = await advanceAll(life, id); jobs.length > 0;) {
          const job = jobs.shift()!;
          const granted = await life.agents.claim(job, WORKER, 'token');
          if (!granted.claimed) continue;
          expect(results.has(job.nodeId)).toBe(false);
          const upstream = await upstreamOf(life, id, granted);
          for (const [name, value] of results)
            if (granted.node.dependsOn.includes(name)) expect(upstream[name]).toBe(value);
          const end = left.shift() ?? 'completed';
          if (end === 'stop') await life.executions.stop(id, { reason: 'user_abort' });
          const state = end === 'stop' ? 'killed' : end;
          const result = `${job.nodeId} in attempt ${job.attempt}`;
          await life.agents.started(granted.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
          const { entries } = await life.agents.finish(granted.fence, {
            state,
            ...(state === 'completed' ? { result } : { error: { code: 'X', message: 'x' } }),
          });
          if (state === 'completed') results.set(job.nodeId, result);
          jobs.push(...entries, ...(await advanceAll(life, id)));
        }
        const { state } = await life.executions.get(id);
        if (state === 'completed') break;
        expect(['failed', 'stopped']).toContain(state);
        expect(round).toBeLessThanOrEqual(ends.length);
        await life.executions.retry(id, again(`r${round}`));
      }
      const stored = await statesOf(id);
      for (const [name, value] of results) expect((await life.executions.node(id, name)).result).toBe(value);
      expect(Object.values(stored).every((s) => s === 'completed' || s === 'failed')).toBe(true);
    }),
    { numRuns: 60 },
  );
}, 60_000);
