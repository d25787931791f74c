import {
  agentIdOf,
  allowedFrom,
  EXECUTION_MACHINE,
  InvalidTransitionError,
  isAllowed,
  NotFoundError,
  statesOf,
  WORKER_MACHINE,
  type AgentJob,
  type BelayError,
  type StopReport,
} from '#libs/contracts';
import { Valkey, ValkeyModule } from '#libs/valkey';
import { Test } from '@nestjs/testing';
import {
  advanceAll,
  createExecution,
  node,
  spec,
  stopReport,
  upstreamOf,
  useLife,
} from '../../../test/support/life';
import { LifecycleModule } from './lifecycle.module';
import { LifecycleService } from './lifecycle.service';
import type { AgentOutcome, Fence } from './agent-store.types';

let url: string;
let valkey: Valkey;
let life: LifecycleService;
const worker = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

useLife((rig) => ({ url, valkey, life } = rig));

async function create(
  nodes: Parameters<typeof spec>[0],
  over: Parameters<typeof spec>[1] = {},
  start = true,
): Promise<string> {
  return createExecution(life, spec(nodes, over), start);
}

async function claim(job: AgentJob, owner = worker): Promise<Fence> {
  const granted = await life.agents.claim(job, owner, 'token');
  if (!granted.claimed) throw new Error(`claim refused: ${granted.why}`);
  return granted.fence;
}

const process = { pid: 4242, pidStartTime: '99', containment: 'marks' as const };

async function runTo(job: AgentJob, outcome: AgentOutcome) {
  const fence = await claim(job);
  await life.agents.started(fence, process);
  return life.agents.finish(fence, outcome);
}

/** All keys of an execution, to compare byte for byte. */
async function dump(id: string): Promise<string> {
  const keys = (await valkey.redis.keys(`${valkey.keys.tagOf(id)}:*`)).sort();
  const values = await Promise.all(
    keys.map(async (key) => (await valkey.redis.dumpBuffer(key))?.toString('hex')),
  );
  return JSON.stringify([keys, values]);
}

const failed = (code = 'EXIT'): AgentOutcome => ({
  state: 'failed',
  exitCode: 1,
  reason: 'error',
  error: { code, message: 'no' },
});

describe('R1 the tables guard the scripts', () => {
  it.each(
    statesOf(EXECUTION_MACHINE).flatMap((from) =>
      statesOf(EXECUTION_MACHINE).map((to) => [from, to] as const),
    ),
  )('execution %s → %s', async (from, to) => {
    const id = await create([node('a')], {}, false);
    await valkey.redis.hset(valkey.keys.execution(id), 'state', from);
    const moved = life.executions.transition(id, to);
    if (isAllowed(EXECUTION_MACHINE, from, to)) await expect(moved).resolves.toMatchObject({ state: to });
    else {
      await expect(moved).rejects.toMatchObject({
        code: 'INVALID_TRANSITION',
        from,
        to,
        allowed: allowedFrom(EXECUTION_MACHINE, from),
      });
      expect((await life.executions.get(id)).state).toBe(from);
    }
  });

  it.each(
    statesOf(WORKER_MACHINE).flatMap((from) => statesOf(WORKER_MACHINE).map((to) => [from, to] as const)),
  )('worker %s → %s', async (from, to) => {
    const id = `wrk_${from}_${to}`;
    await life.workers.register(id, { pools: 'default' }, 60_000);
    await valkey.redis.hset(valkey.keys.worker(id), 'state', from);
    const moved = life.workers.transition(id, to);
    if (isAllowed(WORKER_MACHINE, from, to))
      await expect(moved).resolves.toMatchObject({ state: to, version: 2 });
    else await expect(moved).rejects.toBeInstanceOf(InvalidTransitionError);
  });
});

describe('R2 terminal is final', () => {
  it('refuses a different end and leaves every key byte-identical; the same end again is no second event', async () => {
    const id = await create([node('a')]);
    const [job] = await advanceAll(life, id);
    const fence = await claim(job!);
    await life.agents.started(fence, process);
    await life.agents.finish(fence, { state: 'completed', exitCode: 0, result: { n: 1 } });
    const before = await dump(id);
    await expect(life.agents.finish(fence, failed())).rejects.toBeInstanceOf(InvalidTransitionError);
    await expect(life.agents.finish(fence, { state: 'killed', reason: 'killswitch' })).rejects.toBeInstanceOf(
      InvalidTransitionError,
    );
    await expect(life.agents.finish(fence, { state: 'completed', exitCode: 0 })).resolves.toMatchObject({
      repeated: true,
    });
    await expect(life.agents.report(fence, { costUsd: 5 })).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    await expect(life.agents.started(fence, process)).rejects.toBeInstanceOf(InvalidTransitionError);
    await expect(life.executions.stop(id, { reason: 'user_abort' })).resolves.toMatchObject({
      already: true,
      state: 'completed',
    });
    await expect(life.executions.transition(id, 'running')).rejects.toBeInstanceOf(InvalidTransitionError);
    expect(await dump(id)).toBe(before);
  });
});

describe('R3 compare-and-set', () => {
  it('takes state, epoch and version into account', async () => {
    const id = await create([node('a')]);
    const { version } = await life.executions.get(id);
    await expect(life.executions.transition(id, 'paused', { version: version - 1 })).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
    });
    await expect(life.executions.transition(id, 'paused', { epoch: 7 })).rejects.toMatchObject({
      code: 'STALE_EPOCH',
    });
    await expect(life.executions.transition(id, 'paused', { from: 'idle' })).rejects.toMatchObject({
      code: 'INVALID_TRANSITION',
    });
    const moved = await life.executions.transition(id, 'paused', {
      version,
      epoch: 1,
      from: 'running',
      set: { reason: 'user_abort', error: '{"code":"X","message":"y"}', note: 'n' },
    });
    expect(moved.version).toBeGreaterThan(version);
    await expect(life.workers.transition('wrk_v', 'running')).rejects.toBeInstanceOf(NotFoundError);
    await life.workers.register('wrk_v', {}, 1_000);
    // A call whose reply was lost is repeated, and gets the answer of the first.
    expect(await life.workers.transition('wrk_v', 'running', { version: 1 })).toEqual({
      state: 'running',
      version: 2,
    });
    expect(await life.workers.transition('wrk_v', 'running', { version: 1 })).toEqual({
      state: 'running',
      version: 2,
    });
    await expect(life.workers.transition('wrk_v', 'running', { version: 9 })).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
    });
  });

  it('gives 40 racing claims of one node exactly one winner', async () => {
    const id = await create([node('a')]);
    const [job] = await advanceAll(life, id);
    const claims = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => life.agents.claim(job!, `wrk_${i}`, 't')),
    );
    expect(claims.filter((c) => c.claimed)).toHaveLength(1);
    expect(claims.filter((c) => !c.claimed).map((c) => (c as { why: string }).why)).toEqual(
      Array(39).fill('TAKEN'),
    );
    const winner = claims.find((c) => c.claimed);
    const again = await life.agents.claim(job!, winner!.fence.owner, 't');
    expect(again).toMatchObject({ claimed: true, fence: winner!.fence });
  });
});

describe('R5 times and identity', () => {
  it('come from the server and are set once', async () => {
    const id = await create([node('a')], {
      timeoutMs: 60_000,
      graceMs: 10,
      labels: { team: 'x' },
      maxCostUsd: 3,
    });
    const [job] = await advanceAll(life, id);
    const granted = await life.agents.claim(job!, worker, 't');
    expect(granted).toMatchObject({ claimed: true, graceMs: 10, executionName: 'test' });
    await runTo(job!, { state: 'completed' }).catch(() => undefined);
    const fence = { agentId: job!.agentId, owner: worker, epoch: 1 };
    await life.agents.started(fence, process);
    await life.agents.started(fence, process);
    const [seconds] = await valkey.redis.time();
    await life.agents.finish(fence, { state: 'completed', exitCode: 0, costUsd: 0.25 });
    const execution = await life.executions.get(id);
    const agent = await life.agents.get(job!.agentId);
    for (const at of [
      execution.createdAt,
      execution.startedAt,
      execution.completedAt,
      agent.createdAt,
      agent.startedAt,
      agent.completedAt,
    ]) {
      expect(Math.abs(at! - Number(seconds) * 1000)).toBeLessThan(5_000);
    }
    expect(execution).toMatchObject({
      deadlineAt: execution.startedAt! + 60_000,
      costUsd: 0.25,
      maxCostUsd: 3,
      labels: { team: 'x' },
      epoch: 1,
    });
    expect(agent).toMatchObject({
      owner: worker,
      epoch: 1,
      attempt: 1,
      pid: 4242,
      pidStartTime: '99',
      costUsd: 0.25,
    });
    expect(agent).not.toHaveProperty('token');
  });
});

describe('R6 refusals name the thing that they refuse', () => {
  it('answers unknown ids as not found', async () => {
    const none = 'exe_00000000000000000000000000';
    await expect(life.executions.get(none)).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.executions.start(none)).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.executions.stop(none, { reason: 'error' })).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.executions.advance(none)).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.executions.transition(none, 'paused')).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.executions.node(none, 'a')).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.agents.get(agentIdOf(none, 0, 1))).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.agents.get('nonsense')).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.workers.get('wrk_none')).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.workers.heartbeat('wrk_none', 1, 0)).rejects.toBeInstanceOf(NotFoundError);
    const fence = { agentId: agentIdOf(none, 0, 1), owner: worker, epoch: 1 };
    await expect(life.agents.started(fence, process)).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.agents.report(fence, {})).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.agents.finish(fence, failed())).rejects.toBeInstanceOf(NotFoundError);
    await expect(life.agents.finish({ ...fence, agentId: 'x' }, failed())).rejects.toBeInstanceOf(
      NotFoundError,
    );
    const job = { agentId: fence.agentId, executionId: none, nodeId: 'a', attempt: 1 };
    await expect(life.agents.claim(job, worker, 't')).resolves.toEqual({ claimed: false, why: 'NOT_FOUND' });
    const id = await create([node('a')]);
    await expect(
      life.agents.claim({ ...job, executionId: id, nodeId: 'b' }, worker, 't'),
    ).resolves.toMatchObject({ why: 'NOT_FOUND' });
    expect(await life.executions.events(none, '0-0')).toEqual([]);
    expect(await life.executions.keptEventIds(none)).toBeUndefined();
    expect(await life.executions.nodes(none)).toEqual({ items: [] });
  });

  it('says which states are allowed', async () => {
    const id = await create([node('a')]);
    const error = await life.executions.transition(id, 'idle').catch((e: unknown) => e as BelayError);
    expect((error as BelayError).message).toBe(
      `execution ${id} cannot go from running to idle: from running it can become paused, stopping, completed, failed.`,
    );
  });
});

describe('R9 a retry is another attempt, linked to the one before', () => {
  it('judges dependants only after the last attempt', async () => {
    const id = await create([node('a', { maxAttempts: 2 }), node('b', { dependsOn: ['a'] })], {
      onFailure: 'continue',
    });
    const [first] = await advanceAll(life, id);
    const retried = await runTo(first!, { ...failed(), retryInMs: 25 });
    expect(retried).toMatchObject({ state: 'running', node: 'ready' });
    expect(retried.entries).toEqual([expect.objectContaining({ nodeId: 'a', attempt: 2, delayMs: 25 })]);
    expect(await life.executions.node(id, 'b')).toMatchObject({ state: 'pending' });
    const last = await runTo(retried.entries[0]!, failed());
    expect(last).toMatchObject({ node: 'failed', more: true });
    await advanceAll(life, id);
    expect(await life.agents.get(agentIdOf(id, 0, 2))).toMatchObject({
      previousId: agentIdOf(id, 0, 1),
      attempt: 2,
    });
    expect(await life.executions.node(id, 'b')).toMatchObject({ state: 'skipped' });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'failed',
      reason: 'error',
      error: { code: 'EXIT', nodeId: 'a' },
    });
  });
});

describe('R36 dependencies', () => {
  it('starts a node as soon as its own dependencies are done and hands it their results', async () => {
    const id = await create([
      node('a'),
      node('b'),
      node('c', { dependsOn: ['a'] }),
      node('d', { dependsOn: ['a', 'b'] }),
    ]);
    const [a, b] = await advanceAll(life, id);
    const done = await runTo(a!, { state: 'completed', result: { x: [] } });
    expect(done.entries.map((e) => e.nodeId)).toEqual(['c']);
    const next = await runTo(b!, { state: 'completed' });
    expect(next.entries.map((e) => e.nodeId)).toEqual(['d']);
    const granted = await life.agents.claim(next.entries[0]!, worker, 't');
    if (!granted.claimed) throw new Error(granted.why);
    expect(await upstreamOf(life, id, granted)).toEqual({ a: { x: [] } });
    expect(await life.executions.node(id, 'a')).toMatchObject({
      state: 'completed',
      result: { x: [] },
      agentId: a!.agentId,
    });
    expect(await life.executions.node(id, 'c')).not.toHaveProperty('agentId');
  });

  it('lets dependants run after a failure that is allowed', async () => {
    const id = await create([node('a', { allowFailure: true }), node('b', { dependsOn: ['a'] })]);
    const [a] = await advanceAll(life, id);
    const { entries } = await runTo(a!, failed());
    await runTo(entries[0]!, { state: 'completed' });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'completed',
      nodes: { failed: 1, completed: 1 },
    });
  });

  it('stops the rest when a node fails for good, and names the failure', async () => {
    const id = await create([
      node('a'),
      node('b'),
      node('c', { dependsOn: ['a'] }),
      node('d', { dependsOn: ['b'] }),
    ]);
    const [a, b] = await advanceAll(life, id);
    const fence = await claim(b!);
    await life.agents.started(fence, process);
    const result = await runTo(a!, failed());
    expect(result).toMatchObject({ state: 'stopping', stopNeeded: true, more: true });
    expect(await life.executions.stop(id, { reason: 'error', orderId: 'ord_1' })).toMatchObject({
      already: true,
      orderId: 'ord_1',
      live: 1,
    });
    await advanceAll(life, id);
    const last = await life.agents.finish(fence, {
      state: 'killed',
      reason: 'error',
      stop: { orderId: 'ord_1', reason: 'error' },
    });
    expect(last).toMatchObject({ state: 'failed', node: 'cancelled' });
    const states = Object.fromEntries((await life.executions.nodes(id)).items.map((n) => [n.id, n.state]));
    expect(states).toEqual({ a: 'failed', b: 'cancelled', c: 'skipped', d: 'cancelled' });
  });

  it('opens a wide fan in bounded steps', async () => {
    const leaves = Array.from({ length: 450 }, (_, i) => node(`n${i}`, { dependsOn: ['root'] }));
    const id = await create([node('root'), ...leaves]);
    const [root] = await advanceAll(life, id);
    const { entries, more } = await runTo(root!, { state: 'completed' });
    expect(entries).toHaveLength(200);
    expect(more).toBe(true);
    const rest = await advanceAll(life, id, 100);
    expect(rest).toHaveLength(250);
    expect((await life.executions.get(id)).nodes).toMatchObject({ ready: 450, completed: 1 });
    const page = await life.executions.nodes(id, { limit: 100, states: ['ready'], cursor: '400' });
    expect(page.items).toHaveLength(51);
    expect(page.nextCursor).toBeUndefined();
    expect((await life.executions.nodes(id, { limit: 10 })).nextCursor).toBe('10');
  });
});

describe('stopping', () => {
  it('cancels nodes that have not started, ends when the last agent is dead, and keeps the first reason (R20)', async () => {
    const id = await create([node('a'), node('b', { dependsOn: ['a'] })]);
    const [a] = await advanceAll(life, id);
    const fence = await claim(a!);
    expect(
      await life.executions.stop(id, { reason: 'user_abort', orderId: 'ord_1', actor: 'me', note: 'why' }),
    ).toMatchObject({ state: 'stopping', already: false, live: 1 });
    expect(await life.executions.stop(id, { reason: 'killswitch', orderId: 'ord_2' })).toMatchObject({
      already: true,
      orderId: 'ord_1',
    });
    await expect(life.agents.started(fence, process)).resolves.toMatchObject({
      stopping: true,
      orderId: 'ord_1',
      reason: 'user_abort',
    });
    await advanceAll(life, id);
    await life.agents.finish(fence, { state: 'killed', reason: 'user_abort', orderId: 'ord_1', actor: 'me' });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopped',
      reason: 'user_abort',
      actor: 'me',
      note: 'why',
      orderId: 'ord_1',
      nodes: { cancelled: 2 },
      live: 0,
    });
    await expect(life.agents.claim({ ...a!, attempt: 2 }, worker, 't')).resolves.toMatchObject({
      claimed: false,
      why: 'NOT_RUNNING',
      state: 'stopped',
    });
  });

  it('stops an idle execution before it ever started', async () => {
    const id = await create([node('a'), node('b')], {}, false);
    await life.executions.stop(id, { reason: 'user_abort', actor: 'me', orderId: 'ord_9', note: 'n' });
    await expect(life.executions.start(id)).rejects.toBeInstanceOf(InvalidTransitionError);
    await advanceAll(life, id, 1);
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', nodes: { cancelled: 2 } });
  });

  it('starts an idle one once, and with its deadline', async () => {
    const id = await create([node('a')], { timeoutMs: 5_000 }, false);
    await life.executions.start(id);
    await expect(life.executions.start(id)).resolves.toEqual({ state: 'running' });
    const { startedAt, deadlineAt } = await life.executions.get(id);
    expect(deadlineAt! - startedAt!).toBe(5_000);
  });

  it('lets an order that reached the worker first begin the stop of the whole execution', async () => {
    const id = await create([node('a'), node('b')]);
    const [a, b] = await advanceAll(life, id);
    const other = await claim(b!);
    const fence = await claim(a!);
    const result = await life.agents.finish(fence, {
      state: 'killed',
      stop: { orderId: 'ord_1', reason: 'killswitch', actor: 'me', note: 'n' },
    });
    expect(result).toMatchObject({ state: 'stopping', stopNeeded: false });
    await life.agents.finish(other, { state: 'killed' });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopped',
      reason: 'killswitch',
      orderId: 'ord_1',
    });
  });

  it('turns the kill of one agent into a stop, or with onFailure continue into a failure at the end', async () => {
    const one = await create([node('a')]);
    const [a] = await advanceAll(life, one);
    await runTo(a!, { state: 'killed', reason: 'killswitch', actor: 'me' });
    await advanceAll(life, one);
    expect(await life.executions.get(one)).toMatchObject({
      state: 'stopped',
      reason: 'killswitch',
      error: { code: 'AGENT_KILLED' },
    });
    const two = await create([node('a'), node('b')], { onFailure: 'continue' });
    const [x, y] = await advanceAll(life, two);
    await runTo(x!, { state: 'killed' });
    await runTo(y!, { state: 'completed' });
    expect(await life.executions.get(two)).toMatchObject({ state: 'failed', reason: 'killswitch' });
  });

  it('never calls a stop done on the word of an expired lease', async () => {
    const id = await create([node('a')]);
    const [a] = await advanceAll(life, id);
    const fence = await claim(a!);
    await life.executions.stop(id, { reason: 'user_abort' });
    await life.agents.finish(fence, { ...failed('WORKER_LOST'), reason: 'worker_lost', lost: true });
    expect(await life.executions.get(id)).toMatchObject({ state: 'failed', error: { code: 'UNCONFIRMED' } });
  });

  describe('R51 where a proof has to be of grade kernel', () => {
    const byMarks: StopReport = {
      containment: 'marks',
      proved: true,
      processes: [],
      signals: [],
      evidence: [{ kind: 'sweep-empty', afterMs: 1 }],
      survivors: [],
      escalated: false,
    };
    const byKernel: StopReport = { ...byMarks, evidence: [{ kind: 'descent-empty', afterMs: 1 }] };
    const unconfirmed = { state: 'failed', error: { code: 'UNCONFIRMED' } };
    const strict = (): LifecycleService =>
      new LifecycleService(life.valkey, { retentionMs: 60_000, proof: 'kernel' });
    const stopping = async (...nodes: string[]) => {
      const id = await create(nodes.map((name) => node(name)));
      const fences = [];
      for (const entry of await advanceAll(life, id)) fences.push(await claim(entry));
      await life.executions.stop(id, { reason: 'user_abort' });
      return { id, fences };
    };
    const killedBy = (report: StopReport) => ({
      state: 'killed' as const,
      reason: 'user_abort' as const,
      report,
    });

    it('a stop that only marks prove is not called done; asked for marks, it is', async () => {
      const doubted = await stopping('a', 'b');
      await strict().agents.finish(doubted.fences[0]!, killedBy(byMarks));
      await strict().agents.finish(doubted.fences[1]!, killedBy(byKernel));
      expect(await life.executions.get(doubted.id)).toMatchObject(unconfirmed);
      const proved = await stopping('a');
      await strict().agents.finish(proved.fences[0]!, killedBy(byKernel));
      expect(await life.executions.get(proved.id)).toMatchObject({ state: 'stopped' });
      const content = await stopping('a');
      await life.agents.finish(content.fences[0]!, killedBy(byMarks));
      expect(await life.executions.get(content.id)).toMatchObject({ state: 'stopped' });
    });

    it('a proof by marks that comes late, while the rest is being stopped, does not make it done either', async () => {
      const { id, fences } = await stopping('a', 'b');
      const [lost, last] = fences as [Fence, Fence];
      await life.agents.finish(lost, { ...failed('WORKER_LOST'), reason: 'worker_lost', lost: true });
      await strict().agents.prove(lost.agentId, lost.owner, byMarks);
      await strict().agents.finish(last, killedBy(byKernel));
      expect(await life.executions.get(id)).toMatchObject(unconfirmed);
    });

    it('a retry begins anew', async () => {
      const { id, fences } = await stopping('a');
      await strict().agents.finish(fences[0]!, killedBy(byMarks));
      await life.executions.retry(id, { retryId: 'again', actor: 'test', force: false });
      const [again] = await advanceAll(life, id);
      const fence = await claim(again!);
      await life.executions.stop(id, { reason: 'user_abort' });
      await strict().agents.finish(fence, killedBy(byKernel));
      expect(await life.executions.get(id)).toMatchObject({ state: 'stopped' });
    });
  });
});

describe('R27 fencing and reports', () => {
  it('R38 tells once that a soft budget is passed, and stops nothing', async () => {
    const id = await create([node('a'), node('b')], { softCostUsd: 0.5, maxCostUsd: 2 });
    const [a] = await advanceAll(life, id);
    const fence = await claim(a!);
    await life.agents.started(fence, process);
    await life.agents.report(fence, { costUsd: 0.5 });
    const told = async () => {
      const events = await life.executions.events(id, '0-0');
      return events.filter(({ type }) => type === 'execution.soft-budget');
    };
    expect(await told()).toEqual([]);
    for (const costUsd of [0.6, 0.6, 0.9]) await life.agents.report(fence, { costUsd });
    const [event, ...more] = await told();
    expect(more).toEqual([]);
    expect(event).toMatchObject({
      entity: 'execution',
      agentId: a!.agentId,
      data: { costUsd: 0.6, softCostUsd: 0.5 },
    });
    expect(event).not.toHaveProperty('to');
    expect(await life.executions.get(id)).toMatchObject({ state: 'running', softCostUsd: 0.5, costUsd: 0.9 });
    // The cost may also come with the end itself.
    const other = await create([node('a')], { softCostUsd: 1 });
    await runTo((await advanceAll(life, other))[0]!, { state: 'completed', costUsd: 1.5 });
    expect((await life.executions.events(other, '0-0')).map(({ type }) => type)).toContain(
      'execution.soft-budget',
    );
    expect(await life.executions.get(other)).toMatchObject({ state: 'completed' });
  });

  it('R38 counts tokens once, tells once that a soft budget of them is passed, and enforces the hard one', async () => {
    const id = await create([node('a'), node('b')], { softTokens: 100, maxTokens: 300, maxCostUsd: 9 });
    const [a] = await advanceAll(life, id);
    const fence = await claim(a!);
    await life.agents.started(fence, process);
    for (const tokens of [100, 100, 150, 150, 200]) await life.agents.report(fence, { tokens });
    expect(await life.executions.get(id)).toMatchObject({ state: 'running', tokens: 200, costUsd: 0 });
    const events = await life.executions.events(id, '0-0');
    expect(events.flatMap(({ type, data }) => (type === 'execution.soft-budget' ? [data] : []))).toEqual([
      { tokens: 150, softTokens: 100 },
    ]);
    expect(await life.agents.report(fence, { tokens: 300 })).toEqual({ overBudget: false });
    expect(await life.agents.report(fence, { tokens: 301, costUsd: 1 })).toEqual({ overBudget: true });
    expect(await life.agents.get(a!.agentId)).toMatchObject({ tokens: 301, costUsd: 1 });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopping',
      reason: 'budget_exceeded',
      tokens: 301,
      softTokens: 100,
      maxTokens: 300,
      error: { code: 'BUDGET_EXCEEDED', message: 'Spent 301 tokens of a budget of 300 tokens.' },
    });
    // The tokens may also come with the end itself; where both budgets are passed, the cost is named first.
    const other = await create([node('a'), node('b')], { maxTokens: 1, maxCostUsd: 1 });
    await runTo((await advanceAll(life, other))[0]!, { state: 'completed', tokens: 2, costUsd: 2 });
    expect(await life.executions.get(other)).toMatchObject({
      reason: 'budget_exceeded',
      error: { message: 'Spent $2.00 of a budget of $1.00.' },
    });
  });

  it('R38 an estimate of one agent makes the cost of its execution an estimate', async () => {
    const id = await create([node('a'), node('b')]);
    const [a, b] = await advanceAll(life, id);
    const [exact, guess] = [await claim(a!), await claim(b!)];
    await life.agents.started(exact, process);
    await life.agents.started(guess, process);
    await life.agents.report(exact, { costUsd: 1 });
    expect(await life.executions.get(id)).not.toHaveProperty('costEstimated');
    for (const costUsd of [1, 2]) await life.agents.report(guess, { costUsd, costEstimated: true });
    expect(await life.executions.get(id)).toMatchObject({ costUsd: 3, costEstimated: true });
    expect(await life.agents.get(guess.agentId)).toMatchObject({ costUsd: 2, costEstimated: true });
    expect(await life.agents.get(exact.agentId)).not.toHaveProperty('costEstimated');
  });

  it('refuses another owner or epoch, counts costs once and enforces the hard budget', async () => {
    const id = await create([node('a'), node('b')], { maxCostUsd: 1 });
    const [a, b] = await advanceAll(life, id);
    const fence = await claim(a!);
    await life.agents.started(fence, process);
    for (const wrong of [
      { ...fence, epoch: 99 },
      { ...fence, owner: 'wrk_other' },
    ]) {
      await expect(life.agents.started(wrong, process)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
      await expect(life.agents.report(wrong, {})).rejects.toMatchObject({ code: 'STALE_EPOCH' });
      await expect(life.agents.finish(wrong, failed())).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    }
    const said = {
      costUsd: 0.4,
      progress: { done: [] },
      checkpoint: 3,
      badLines: 1,
      events: [
        { n: 1, name: 'hi' },
        { n: 2, name: 'ho', data: [] },
      ],
    };
    await life.agents.report(fence, said);
    await life.agents.report(fence, said);
    expect((await life.executions.get(id)).costUsd).toBe(0.4);
    expect(await life.agents.get(a!.agentId)).toMatchObject({
      progress: { done: [] },
      checkpoint: 3,
      badLines: 1,
    });
    const events = await life.executions.events(id, '0-0');
    expect(events.filter((e) => e.type === 'agent.event')).toHaveLength(2);
    expect(events.map((e) => e.seq)).toEqual(events.map((_, i) => i + 1));
    expect(await life.executions.keptEventIds(id)).toEqual({ first: events[0]!.id, last: events.at(-1)!.id });
    expect(await life.agents.report(fence, { costUsd: 1.2 })).toEqual({ overBudget: true });
    expect(await life.executions.get(id)).toMatchObject({
      state: 'stopping',
      reason: 'budget_exceeded',
      // Not the submitter: the budget stopped it.
      actor: 'belay',
      error: { code: 'BUDGET_EXCEEDED', message: 'Spent $1.20 of a budget of $1.00.' },
    });
    const other = await create([node('a'), node('b')], { maxCostUsd: 1 });
    const [c] = await advanceAll(life, other);
    await runTo(c!, { state: 'completed', costUsd: 1.000025 });
    expect(await life.executions.get(other)).toMatchObject({
      reason: 'budget_exceeded',
      error: { message: 'Spent $1.000025 of a budget of $1.00.' },
    });
    expect(b!.nodeId).toBe('b');
  });
});

describe('R24 listing', () => {
  it('lists executions by state and label, agents by state, owner and execution, with a cursor', async () => {
    const label = { run: 'listing' };
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push(await create([node('a')], { labels: label }));
    const all = await life.executions.list({ labels: ['run=listing'] });
    expect(all.items.map((e) => e.id)).toEqual(ids.toReversed());
    const first = await life.executions.list({ labels: ['run=listing'], limit: 2 });
    expect(first.nextCursor).toBe(ids[3]);
    const rest = await life.executions.list({
      labels: ['run=listing'],
      limit: 50,
      cursor: first.nextCursor!,
    });
    expect(rest.items.map((e) => e.id)).toEqual([ids[2], ids[1], ids[0]]);
    expect((await life.executions.list({ states: ['completed'], labels: ['run=listing'] })).items).toEqual(
      [],
    );
    expect((await life.executions.list({ states: ['running'] })).items.length).toBeGreaterThanOrEqual(5);
    expect((await life.executions.list({ labels: ['run=listing', 'x=y'] })).items).toEqual([]);
    const [job] = await advanceAll(life, ids[0]!);
    const fence = await claim(job!, 'wrk_lister');
    expect((await life.agents.list({ owner: 'wrk_lister' })).map((a) => a.id)).toEqual([job!.agentId]);
    expect((await life.agents.list({ executionId: ids[0]! })).map((a) => a.state)).toEqual(['spawning']);
    expect((await life.agents.ownedBy('wrk_lister')).map((a) => a.id)).toEqual([job!.agentId]);
    expect((await life.agents.liveEverywhere()).map((a) => a.id)).toContain(job!.agentId);
    expect((await life.agents.liveOf(ids[0]!)).map((a) => a.id)).toEqual([job!.agentId]);
    await life.agents.finish(fence, { ...failed(), report: stopReport() });
    expect((await life.agents.list({ states: ['failed'], owner: 'wrk_lister', limit: 1 }))[0]).toMatchObject({
      report: { processes: [], proved: true },
    });
    expect(await life.agents.ownedBy('wrk_lister')).toEqual([]);
    // An execution that retention has removed is passed over, without an error.
    await valkey.redis.del(valkey.keys.execution(ids[1]!));
    expect((await life.executions.list({ labels: ['run=listing'] })).items).toHaveLength(4);
  });
});

describe('R30 idempotency', () => {
  it('same key and spec is the same execution; another spec names both', async () => {
    const made = spec([node('a')], { idempotencyKey: 'k1' });
    expect(await life.executions.isKeyTaken('k1')).toBe(false);
    const options = { start: true, canonical: 'one' };
    const first = await life.executions.create(made, options);
    expect(first.created).toBe(true);
    expect(await life.executions.create(made, options)).toEqual({ id: first.id, created: false });
    expect(await life.executions.isKeyTaken('k1')).toBe(true);
    await expect(life.executions.create(made, { ...options, canonical: 'two' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      details: { existing: first.id },
    });
    expect(await life.executions.create(made, { ...options, id: first.id, actor: 'me' })).toEqual({
      id: first.id,
      created: true,
    });
  });

  it('reports that the staged keys are gone', async () => {
    const made = spec([node('a'), node('a')]);
    await expect(life.executions.create(made, { start: true, canonical: 'x' })).rejects.toMatchObject({
      code: 'TIMEOUT',
    });
  });
});

describe('R31 corrupt records', () => {
  it('are typed errors with the key and a short cut of the data', async () => {
    const id = await create([node('a')]);
    await valkey.redis.hset(valkey.keys.execution(id, 'nodes'), 'a', 'not json');
    await expect(life.executions.node(id, 'a')).rejects.toMatchObject({
      code: 'CORRUPT_RECORD',
      message: expect.stringContaining(valkey.keys.execution(id, 'nodes')) as string,
    });
    const other = await create([node('a')]);
    await valkey.redis.hdel(valkey.keys.execution(other), 'state');
    await expect(life.executions.get(other)).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
    const { items } = await life.executions.list({ limit: 1_000 });
    expect(items.map((record) => record.id)).toContain(id);
    expect(items.map((record) => record.id)).not.toContain(other);
    await valkey.redis.del(valkey.keys.execution(other));
  });

  it('a pipeline that fails is raised, not swallowed', async () => {
    const id = life.executions.newId();
    await valkey.redis.set(valkey.keys.execution(id, 'specs'), 'a string where a hash belongs');
    await expect(
      life.executions.create(spec([node('a')]), { start: false, canonical: 'x', id }),
    ).rejects.toThrow('WRONGTYPE');
  });
});

describe('workers', () => {
  it('R26 a lease that ran out is taken once, and its heartbeat is refused from then on', async () => {
    const id = 'wrk_short';
    const first = await life.workers.register(
      id,
      { pools: 'a,b', handlers: 'sum,mail', containment: 'cgroup', grade: 'marks', concurrency: '4' },
      1,
    );
    expect(first).toMatchObject({ state: 'idle' });
    await life.workers.transition(id, 'running');
    expect(await life.workers.get(id)).toMatchObject({
      pools: ['a', 'b'],
      handlers: ['sum', 'mail'],
      grade: 'marks',
      state: 'running',
      concurrency: 4,
    });
    const lease = (await life.workers.leases()).find(({ workerId }) => workerId === id)!;
    expect(lease).toEqual({ workerId: id, endsAt: first.now + 1, lengthMs: 1 });
    expect(await Promise.all([life.workers.expire(lease), life.workers.expire(lease)])).toEqual([
      true,
      false,
    ]);
    expect(await life.workers.lost()).toContain(id);
    await expect(life.workers.heartbeat(id, 1_000, 0)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
    expect((await life.workers.get(id)).reason).toBe('worker_lost');
    const lately = await life.workers.lostLately(60_000);
    expect(lately.map((worker) => worker.id)).toContain(id);
    // A worker that stopped by itself was not lost.
    expect(new Set(lately.map(({ reason }) => reason))).toEqual(new Set(['worker_lost']));
    expect(await life.workers.lostLately(-60_000)).toEqual([]);
    await life.workers.forgetLost(id);
    expect(await life.workers.lost()).not.toContain(id);
    expect((await life.workers.register(id, {}, 1_000)).state).toBe('stopped');
  });

  it('a heartbeat renews the lease and measures the server clock', async () => {
    await life.workers.register('wrk_beat', {}, 60_000);
    const beat = await life.workers.heartbeat('wrk_beat', 60_000, 3);
    expect(Math.abs(valkey.clock.now() - beat.now)).toBeLessThan(1_000);
    const listed = (await life.workers.list()).find((w) => w.id === 'wrk_beat');
    expect(listed).toMatchObject({
      running: 3,
      lastHeartbeatAt: beat.now,
      leaseExpiresAt: beat.now + 60_000,
    });
    // The janitor saw the lease before the worker renewed it.
    expect(await life.workers.expire({ workerId: 'wrk_beat', endsAt: beat.now + 59_999 })).toBe(false);
    await life.workers.transition('wrk_beat', 'stopped', { reason: 'over' });
    expect((await life.workers.list()).map((w) => w.id)).not.toContain('wrk_beat');
    expect((await life.workers.lostLately(60_000)).map((w) => w.id)).not.toContain('wrk_beat');
    await valkey.redis.del(valkey.keys.worker('wrk_beat'));
    expect((await life.workers.lostLately(60_000)).map((w) => w.id)).not.toContain('wrk_beat');
    expect((await life.workers.list(['stopped'])).map((w) => w.id)).not.toContain('wrk_beat');
  });
});

it('R69 is given to a Nest application by its module', async () => {
  const module = await Test.createTestingModule({
    imports: [
      LifecycleModule.forRoot({
        imports: [ValkeyModule.forRoot({ url, keyPrefix: 'nest', shards: 1 })],
        retentionMs: 1_000,
        executionEvents: 10,
      }),
    ],
  }).compile();
  expect(module.get(LifecycleService)).toBeInstanceOf(LifecycleService);
  await module.close();
  module.get(Valkey).close();
});
