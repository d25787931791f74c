import { randomUUID } from 'node:crypto';
import {
  conditionsOf,
  formatSelector,
  parseSelector,
  scopeCovers,
  type DispatchEntry,
  type Latch,
  type Requirement,
  type Scope,
} from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import fc from 'fast-check';
import { eventually } from '../../../test/support/fleet';
import { advanceAll, createExecution, node, spec, stopReport, useLife } from '../../../test/support/life';
import { LifecycleService } from './lifecycle.service';
import { reportFor } from './worker-store';
import type { Fence } from './agent-store.types';

let valkey: Valkey;
let life: LifecycleService;
let version = 0;
const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

useLife((rig) => ({ valkey, life } = rig));
afterEach(async () => latch());

/** Copies the latches into every shard, as LatchStore does. */
async function latch(...latches: { scope: Scope; kind?: Latch['kind']; id?: string }[]): Promise<void> {
  version++;
  const items = latches.map(({ scope, kind = 'latch', id = 'lat_01HZZZZZZZZZZZZZZZZZZZZZZZ' }) => ({
    id,
    kind,
    scope,
    by: 'test',
    note: 'why',
    engagedAt: 1,
    ...(scope.type === 'selector' ? { requires: conditionsOf(scope.selector) } : {}),
  }));
  for (const tag of valkey.keys.tags())
    await valkey.scripts.json('copyLatches', valkey.keys.shard(tag, 'latches'), [
      tag,
      version,
      JSON.stringify(items),
      500,
    ]);
}

const keysOf = async (id: string): Promise<string[]> => valkey.redis.keys(`${valkey.keys.execution(id)}*`);

async function create(
  nodes: Parameters<typeof spec>[0],
  over: Parameters<typeof spec>[1] = {},
  start = true,
): Promise<string> {
  return createExecution(life, spec(nodes, over), start);
}

const first = async (id: string): Promise<DispatchEntry> => (await advanceAll(life, id))[0] as DispatchEntry;

async function claim(job: DispatchEntry, owner = WORKER): Promise<Fence> {
  const granted = await life.agents.claim(job, owner, 'token');
  if (!granted.claimed) throw new Error(`claim refused: ${granted.why}`);
  return granted.fence;
}

const REPORT = stopReport({ evidence: [{ kind: 'sweep-empty', afterMs: 1 }], escalated: true });

const key = fc.constantFrom('team', 'env', 'model');
const value = fc.constantFrom('a', 'b', 'with "quotes", commas', '');
const requirement: fc.Arbitrary<Requirement> = fc.oneof(
  fc.record({
    key,
    op: fc.constantFrom('in' as const, 'notin' as const),
    values: fc.uniqueArray(value, { minLength: 1, maxLength: 3 }),
  }),
  fc.record({ key, op: fc.constant('exists' as const) }),
  fc.record({ key, op: fc.constant('absent' as const) }),
);
const labels = fc.dictionary(key, value, { noNullPrototype: true });

describe('selectors', () => {
  it('are read as they were written', () => {
    fc.assert(
      fc.property(fc.array(requirement, { minLength: 1, maxLength: 5 }), (selector) => {
        expect(parseSelector(formatSelector(selector)).selector).toEqual(selector);
      }),
    );
  });

  it('R53 the claim script and the workers agree on the coverage of a scope', async () => {
    const scope: fc.Arbitrary<Scope> = fc.oneof(
      {
        weight: 5,
        arbitrary: fc
          .array(requirement, { minLength: 1, maxLength: 3 })
          .map((s): Scope => ({ type: 'selector', selector: formatSelector(s) })),
      },
      fc.constantFrom<Scope>(
        { type: 'all' },
        { type: 'pool', pool: 'gpu' },
        { type: 'pool', pool: 'default' },
        { type: 'worker', workerId: WORKER },
        { type: 'worker', workerId: 'wrk_other' },
      ),
    );
    await fc.assert(
      fc.asyncProperty(
        scope,
        labels,
        labels,
        fc.constantFrom('gpu', 'default'),
        async (over, outer, inner, pool) => {
          await latch();
          const id = await create([{ ...node('a'), labels: inner, pool }], { labels: outer });
          const job = await first(id);
          await latch({ scope: over });
          const claimed = await life.agents.claim(job, WORKER, 'token');
          const covered = scopeCovers(over, {
            agentId: job.agentId,
            executionId: id,
            workerId: WORKER,
            pool,
            labels: { ...outer, ...inner },
          });
          expect({ over, claimed: claimed.claimed }).toEqual({ over, claimed: !covered });
          if (claimed.claimed) {
            expect(claimed).toMatchObject({ pool, labels: { ...outer, ...inner } });
            await life.agents.finish(claimed.fence, { state: 'failed', reason: 'error' });
          } else expect(claimed).toMatchObject({ why: 'LATCHED', latch: { scope: over, by: 'test' } });
        },
      ),
      { numRuns: 150 },
    );
  }, 60_000);
});

describe('a latch', () => {
  it('over every node, by pool, refuses a start and a retry as it refuses a submit; over some of them it does not', async () => {
    const gpu = (id: string) => ({ ...node(id), pool: 'gpu' });
    const idle = await create([gpu('a'), gpu('b')], {}, false);
    const mixed = await create([gpu('a'), node('b')], {}, false);
    const ended = await create([gpu('a')]);
    await life.executions.stop(ended, { reason: 'user_abort', actor: 'me' });
    await advanceAll(life, ended);
    expect((await life.executions.get(ended)).state).toBe('stopped');
    await latch({ scope: { type: 'pool', pool: 'gpu' } });
    const refusal = { code: 'LATCHED', details: { scope: { type: 'pool', pool: 'gpu' } } };
    await expect(create([gpu('a')])).rejects.toMatchObject(refusal);
    await expect(life.executions.start(idle)).rejects.toMatchObject(refusal);
    await expect(
      life.executions.retry(ended, { actor: 'me', retryId: 'r1', force: false }),
    ).rejects.toMatchObject(refusal);
    await life.executions.start(mixed);
    await latch();
    await life.executions.start(idle);
    await life.executions.retry(ended, { actor: 'me', retryId: 'r2', force: false });
    expect((await life.executions.get(ended)).state).toBe('running');
  });

  it('refuses a whole submit, a start or a resume in its scope, and nothing else', async () => {
    const idle = await create([node('a')], { labels: { team: 'x' } }, false);
    const paused = await create([node('a')], { labels: { team: 'x' } });
    await life.executions.pause(paused, { mode: 'drain', actor: 'me' });
    await latch({ scope: { type: 'selector', selector: 'team=x' } });
    const refusal = {
      code: 'LATCHED',
      details: { latchId: 'lat_01HZZZZZZZZZZZZZZZZZZZZZZZ', kind: 'latch' },
    };
    await expect(create([node('a')], { labels: { team: 'x' } })).rejects.toMatchObject(refusal);
    await expect(create([{ ...node('a'), labels: { team: 'x' } }])).rejects.toMatchObject(refusal);
    await expect(life.executions.start(idle)).rejects.toMatchObject(refusal);
    await expect(life.executions.resume(paused, 'me')).rejects.toMatchObject(refusal);
    await create([{ ...node('a'), labels: { team: 'x' } }, node('b')]);
    // More kinds of nodes than the submit compares: the claims decide.
    await create(
      Array.from({ length: 70 }, (_, i) => ({ ...node(`n${i}`), labels: { team: 'x', n: String(i) } })),
    );
    await latch({ scope: { type: 'all' }, kind: 'freeze' });
    const waiting = await create([node('a')]);
    expect(await life.agents.claim(await first(waiting), WORKER, 't')).toMatchObject({
      why: 'LATCHED',
      latch: { kind: 'freeze' },
    });
    await latch({ scope: { type: 'execution', executionId: waiting } });
    const job = { agentId: `agt_${waiting.slice(4)}-0-1`, executionId: waiting, nodeId: 'a', attempt: 1 };
    expect(await life.agents.claim(job, WORKER, 't')).toMatchObject({ why: 'LATCHED' });
    await latch({ scope: { type: 'agent', agentId: job.agentId } });
    expect(await life.agents.claim(job, WORKER, 't')).toMatchObject({ why: 'LATCHED' });
    await latch();
    expect(await life.agents.claim(job, WORKER, 't')).toMatchObject({ claimed: true });
  });

  it('a shard keeps the newer copy', async () => {
    const id = await create([node('a')]);
    const job = await first(id);
    await latch({ scope: { type: 'all' } });
    for (const tag of valkey.keys.tags())
      expect(
        await valkey.scripts.json('copyLatches', valkey.keys.shard(tag, 'latches'), [
          tag,
          version - 1,
          '[]',
          500,
        ]),
      ).toMatchObject({ applied: false });
    expect(await life.agents.claim(job, WORKER, 't')).toMatchObject({ why: 'LATCHED' });
  });
});

describe('pause and resume', () => {
  it('R22 a paused execution starts nothing, its deadline stands still; ready nodes are due at the resume', async () => {
    const id = await create([node('a')], { timeoutMs: 60_000 });
    const job = await first(id);
    const byLatch = { mode: 'drain', actor: 'me', note: 'lunch', heldBy: 'lat_x' } as const;
    // A freeze that was released before it was carried out pauses nothing.
    expect(await life.executions.pause(id, byLatch)).toEqual({ state: 'running' });
    await latch({ scope: { type: 'pool', pool: 'other' }, kind: 'freeze', id: 'lat_x' });
    expect(await life.executions.pause(id, { ...byLatch, heldBy: 'lat_y' })).toEqual({ state: 'running' });
    expect(await life.executions.pause(id, byLatch)).toEqual({ state: 'paused' });
    expect(await life.executions.held()).toEqual([{ id, latchId: 'lat_x' }]);
    // A latch's freeze has its order already; a person's is remembered until the log has it.
    expect(await life.executions.freezing()).toEqual([]);
    expect(await life.executions.pausingLatch(id)).toBe('lat_x');
    const { mark: freezeMark = '', ...paused } = await life.executions.pause(id, {
      mode: 'freeze',
      actor: 'me',
    });
    expect(paused).toEqual({ state: 'paused' });
    expect(await life.executions.pausingLatch(id)).toBeUndefined();
    expect(await life.executions.freezing()).toEqual([{ id, mark: freezeMark }]);
    await life.executions.freezeOrdered(id, freezeMark);
    expect(await life.executions.freezing()).toEqual([]);
    const record = await life.executions.get(id);
    expect(record).toMatchObject({ state: 'paused', frozen: true });
    expect(record.deadlineAt).toBeUndefined();
    expect(record.deadlineLeftMs).toBeGreaterThan(50_000);
    // A user's pause stays when that latch is released, and no latch takes over a pause.
    expect(await life.executions.held()).toEqual([]);
    await life.executions.pause(id, { mode: 'freeze', actor: 'me', heldBy: 'lat_x' });
    expect(await life.executions.held()).toEqual([]);
    expect(await life.executions.resume(id, 'belay', 'lat_x')).toEqual({ state: 'paused', wasFrozen: false });
    expect(await life.agents.claim(job, WORKER, 't')).toMatchObject({ why: 'NOT_RUNNING', state: 'paused' });
    const { mark = '', ...resumed } = await life.executions.resume(id, 'me');
    expect(resumed).toEqual({ state: 'running', wasFrozen: true });
    // The answer is repeated until the log has the order that thaws the processes.
    expect(await life.executions.thawing()).toEqual([{ id, mark }]);
    expect(await life.executions.resume(id, 'me')).toEqual({ state: 'running', wasFrozen: true, mark });
    await life.executions.thawOrdered(id, mark);
    expect(await life.executions.thawing()).toEqual([]);
    expect(await life.executions.resume(id, 'me')).toEqual({ state: 'running', wasFrozen: false });
    expect((await life.executions.get(id)).deadlineAt).toBeGreaterThan(Date.now());
    // The next step hands over the parked attempt.
    expect(await advanceAll(life, id)).toMatchObject([{ agentId: job.agentId }]);
    const due = await valkey.redis.zscore(valkey.keys.shard(valkey.keys.tagOf(id), 'outbox:at'), job.agentId);
    expect(Number(due)).toBeLessThanOrEqual(Date.now());
    await claim(job);
    await life.executions.stop(id, { reason: 'user_abort' });
    await expect(life.executions.resume(id, 'me')).rejects.toMatchObject({
      code: 'INVALID_TRANSITION',
      message: expect.stringContaining('not paused') as string,
    });
    await expect(
      life.executions.pause('exe_01HZZZZZZZZZZZZZZZZZZZZZZZ', { mode: 'drain', actor: 'me' }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('R22 a process that is late with its order removes no mark of a later pause or resume', async () => {
    const id = await create([node('a')]);
    const freeze = async (): Promise<string> =>
      (await life.executions.pause(id, { mode: 'freeze', actor: 'me' })).mark ?? '';
    const resume = async (): Promise<string> => (await life.executions.resume(id, 'me')).mark ?? '';
    const pauses = [await freeze()];
    const resumes = [await resume()];
    pauses.push(await freeze());
    expect(await life.executions.thawing()).toEqual([]);
    await life.executions.freezeOrdered(id, pauses[0]!);
    expect(await life.executions.freezing()).toEqual([{ id, mark: pauses[1] }]);
    resumes.push(await resume());
    expect(await life.executions.freezing()).toEqual([]);
    await life.executions.thawOrdered(id, resumes[0]!);
    expect(await life.executions.thawing()).toEqual([{ id, mark: resumes[1] }]);
    for (const _ of ['once', 'repeated']) await life.executions.thawOrdered(id, resumes[1]!);
    expect(await life.executions.thawing()).toEqual([]);
  });

  it('R22 a thaw is remembered until somebody has looked behind it, each one by itself', async () => {
    const id = await create([node('a')]);
    for (const thawId of ['one', 'one', 'two']) await life.executions.thawBegins(id, thawId);
    expect(await life.executions.thaws()).toEqual([
      { id, thawId: 'one' },
      { id, thawId: 'two' },
    ]);
    // It may still be placed.
    await life.executions.thawLooked(id, 'one', 60_000);
    expect(await life.executions.thaws()).toHaveLength(2);
    for (const _ of ['once', 'repeated']) await life.executions.thawLooked(id, 'one');
    expect(await life.executions.thaws()).toEqual([{ id, thawId: 'two' }]);
  });

  it('R22 the list of marks names an execution whose record is gone, and one whose record cannot be read', async () => {
    const [gone, corrupt] = [await create([node('a')]), await create([node('a')])];
    for (const id of [gone, corrupt]) {
      await life.executions.pause(id, { mode: 'freeze', actor: 'me' });
      await valkey.redis.del(valkey.keys.execution(id));
    }
    await valkey.redis.set(valkey.keys.execution(corrupt), 'x');
    expect(await life.executions.freezing()).toEqual(
      expect.arrayContaining([
        { id: gone, mark: '' },
        { id: corrupt, mark: '' },
      ]),
    );
    await life.executions.freezeOrdered(gone, '');
    expect(await life.executions.freezing()).toEqual([{ id: corrupt, mark: '' }]);
    await valkey.redis.del(valkey.keys.execution(corrupt));
    await life.executions.freezeOrdered(corrupt, '');
  });

  it('R22 R39 a deadline does not pass during a pause, and its rest passes after the resume', async () => {
    const id = await create([node('a')], { timeoutMs: 30 });
    await life.executions.pause(id, { mode: 'drain', actor: 'me' });
    const deadlines = valkey.keys.shard(valkey.keys.tagOf(id), 'deadlines');
    const from = await valkey.timeAt(deadlines);
    await eventually(async () => (await valkey.timeAt(deadlines)) > from + 60, 'the time of the deadline');
    const late = { reason: 'timeout', isLate: true } as const;
    expect(await valkey.redis.zscore(deadlines, id)).toBeNull();
    expect(await life.executions.stop(id, late)).toMatchObject({ state: 'paused', already: true });
    await life.executions.resume(id, 'me');
    await eventually(
      async () => (await life.executions.stop(id, late)).state === 'stopping',
      'the end of its time',
    );
  });

  it('R22 an execution that a freeze paused goes on with its release; not while another freeze covers it, but under a latch', async () => {
    const id = await create([node('a')]);
    const freeze = (name: string) => ({ scope: { type: 'all' } as const, kind: 'freeze' as const, id: name });
    await latch(freeze('lat_1'), freeze('lat_2'));
    await life.executions.pause(id, { mode: 'freeze', actor: 'me', heldBy: 'lat_1' });
    await latch(freeze('lat_2'));
    expect(await life.executions.resume(id, 'belay', 'lat_1')).toEqual({ state: 'paused', wasFrozen: false });
    expect(await life.executions.held()).toEqual([{ id, latchId: 'lat_2' }]);
    await latch({ scope: { type: 'all' } });
    expect(await life.executions.resume(id, 'belay', 'lat_2')).toEqual({
      state: 'running',
      wasFrozen: false,
    });
    expect(await life.executions.held()).toEqual([]);
  });

  it('an agent is marked frozen and thawed by its owner alone, once each', async () => {
    const id = await create([node('a')]);
    const fence = await claim(await first(id));
    expect(await life.agents.markFrozen(fence, true, 'ord_1')).toEqual({ state: 'spawning' });
    expect(await life.agents.markFrozen(fence, true)).toEqual({ state: 'spawning' });
    expect(await life.agents.get(fence.agentId)).toMatchObject({ frozen: true });
    await expect(life.agents.markFrozen({ ...fence, epoch: 9 }, false)).rejects.toMatchObject({
      code: 'STALE_EPOCH',
    });
    await life.agents.markFrozen(fence, false);
    expect((await life.agents.get(fence.agentId)).frozen).toBeUndefined();
    const types = (await life.executions.events(id, '0-0')).map(({ type }) => type);
    expect(types.filter((type) => /frozen|thawed/.test(type))).toEqual(['agent.frozen', 'agent.thawed']);
  });
});

describe('lost workers', () => {
  it('R51 an attempt lost without proof stays unproved, and keeps a stop from saying stopped, until it is proved', async () => {
    const id = await create([{ ...node('a'), maxAttempts: 2 }], { onFailure: 'continue' });
    const fence = await claim(await first(id), 'wrk_gone');
    await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true, retryInMs: 0 });
    expect((await life.agents.unproved('wrk_gone')).map((agent) => agent.id)).toEqual([fence.agentId]);
    expect(await life.agents.unproved('wrk_else')).toEqual([]);
    expect((await life.agents.unproved()).length).toBe(1);
    await life.executions.stop(id, { reason: 'user_abort' });
    await advanceAll(life, id);
    expect(await life.executions.get(id)).toMatchObject({ state: 'failed', error: { code: 'UNCONFIRMED' } });
    await expect(life.agents.prove(fence.agentId, 'wrk_else', REPORT)).rejects.toMatchObject({
      code: 'STALE_EPOCH',
    });
    expect(await life.agents.prove(fence.agentId, 'wrk_gone', REPORT)).toBe(true);
    expect(await life.agents.prove(fence.agentId, 'wrk_gone', REPORT)).toBe(false);
    expect(await life.agents.unproved()).toEqual([]);
    expect(await life.agents.get(fence.agentId)).toMatchObject({ state: 'failed', report: { proved: true } });
  });

  it('R26 a worker that was declared lost gets no claim any more', async () => {
    const job = await first(await create([node('a')]));
    await life.agents.banOwner('wrk_banned');
    expect(await life.agents.claim(job, 'wrk_banned', 't')).toEqual({ claimed: false, why: 'GONE' });
    await claim(job);
  });

  it('proof of a dead worker is kept for the process that declares it lost', async () => {
    expect(await life.workers.proof('wrk_proved')).toBeUndefined();
    await life.workers.saveProof('wrk_proved', REPORT);
    const kept = await life.workers.proof('wrk_proved');
    expect(kept).toEqual({ report: REPORT });
    expect(reportFor(kept, { pid: 1, pidStartTime: '1' })).toEqual(REPORT);
    // A proof about some agents does not replace a proof about all.
    await life.workers.saveProof('wrk_proved', REPORT, [{ pid: 1, startTime: '1' }]);
    expect(await life.workers.proof('wrk_proved')).toEqual(kept);
  });

  it('a worker that renews its lease after it was told dead was not: such a proof counts for nothing', async () => {
    await life.workers.register('wrk_lives', {}, 60_000);
    await life.workers.saveProof('wrk_lives', REPORT);
    expect(await life.workers.proof('wrk_lives')).toMatchObject({ report: REPORT });
    await life.workers.heartbeat('wrk_lives', 60_000, 1);
    expect(await life.workers.proof('wrk_lives')).toBeUndefined();
    // It still counts for processes that a guardian ended while the worker was silent.
    await life.workers.saveProof('wrk_lives', REPORT);
    expect(await life.workers.proof('wrk_lives')).toMatchObject({ report: REPORT });
  });

  it.each([
    ['{broken', 'it is not JSON'],
    ['{"report":{}}', 'report.proved is not true'],
    [JSON.stringify({ report: { ...REPORT, survivors: undefined } }), 'report.survivors is not a list'],
    [JSON.stringify({ report: REPORT, leaders: 'all' }), 'leaders is not a list of pid and startTime'],
    [JSON.stringify({ report: REPORT, leaders: [{ pid: 1 }] }), 'leaders is not a list of pid and startTime'],
  ])(
    'R31 R51 a kept proof that cannot be read proves nothing and is set aside: %s, %s',
    async (text, problem) => {
      const id = `wrk_${randomUUID()}`;
      const key = valkey.keys.shard(valkey.keys.control, `proof:${id}`);
      await valkey.redis.set(key, text);
      expect(await life.workers.proof(id)).toBeUndefined();
      await eventually(
        async () =>
          (await valkey.quarantine.list()).some((one) => one.key === key && one.problem === problem),
        'its entry',
      );
      await valkey.redis.del(key);
    },
  );

  it('the end of trees by a guardian while the worker was silent is proof for those trees alone', async () => {
    await life.workers.saveProof('wrk_silent', REPORT, [{ pid: 7, startTime: '70' }]);
    const kept = await life.workers.proof('wrk_silent');
    expect(reportFor(kept, { pid: 7, pidStartTime: '70' })).toEqual(REPORT);
    expect(reportFor(kept, { pid: 7, pidStartTime: '71' })).toBeUndefined();
    expect(reportFor(kept, {})).toBeUndefined();
    expect(reportFor(undefined, { pid: 7, pidStartTime: '70' })).toBeUndefined();
  });
});

it('agents that an order ended, and those that can be read beside one that cannot (R31)', async () => {
  const id = await create([node('a'), node('b')], { onFailure: 'continue' });
  const [a, b] = await Promise.all((await advanceAll(life, id)).map(async (job) => claim(job)));
  if (a === undefined || b === undefined) throw new Error('two agents');
  await life.agents.finish(a, { state: 'killed', orderId: 'ord_1' });
  expect((await life.agents.report(b, { costUsd: 1, badLines: 2, dropped: { events: 3 } })).overBudget).toBe(
    false,
  );
  expect(await life.agents.get(b.agentId)).toMatchObject({ dropped: { events: 3 }, costUsd: 1 });
  expect((await life.agents.endedBy('ord_1')).map((agent) => agent.id)).toEqual([a.agentId]);
  expect(await life.agents.endedBy('ord_2')).toEqual([]);
  await valkey.redis.hset(valkey.keys.execution(id, 'agents'), a.agentId, '{broken');
  expect(
    (await life.agents.many([a.agentId, b.agentId, `agt_${id.slice(4)}-7-1`])).map((agent) => agent.id),
  ).toEqual([b.agentId]);
});

it('a list’s cursor that it never answered is refused', async () => {
  const id = await create([node('a')]);
  await expect(life.executions.list({ cursor: 'abc' })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  await expect(life.executions.nodes(id, { cursor: 'abc' })).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
    problems: [{ path: 'cursor' }],
  });
  expect(await life.executions.nodes(id, { cursor: '0' })).toMatchObject({ items: [{ id: 'a' }] });
  await expect(life.executions.get(`${id}:specs`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('R36 a node with thousands of dependants opens them in pieces, each once; skipping goes the same way', async () => {
  const fan = Array.from({ length: 1_700 }, (_, i) => node(`n${i}`, { dependsOn: ['root'] }));
  const good = await create([node('root'), ...fan, node('last', { dependsOn: fan.map((one) => one.id) })]);
  const fence = await claim(await first(good));
  await life.agents.started(fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  const done = await life.agents.finish(fence, { state: 'completed' });
  const opened = [...done.entries, ...(await advanceAll(life, good))];
  expect(new Set(opened.map(({ nodeId }) => nodeId)).size).toBe(1_700);
  expect(opened).toHaveLength(1_700);
  expect((await life.executions.get(good)).nodes).toMatchObject({ ready: 1_700, pending: 1 });

  const bad = await create([{ ...node('root'), maxAttempts: 1 }, ...fan], { onFailure: 'continue' });
  await life.agents.finish(await claim(await first(bad)), { state: 'failed', reason: 'error' });
  await advanceAll(life, bad);
  expect(await life.executions.get(bad)).toMatchObject({
    state: 'failed',
    nodes: { skipped: 1_700, failed: 1 },
  });
}, 30_000);

describe('a submit that is refused leaves nothing in the server', () => {
  it('stages no graph while a latch covers it, or when its key is taken', async () => {
    const staged = jest.spyOn(valkey.redis, 'pipeline');
    const commits = valkey.scripts.calls.get('commitExecution');
    await latch({ scope: { type: 'all' } });
    const id = life.executions.newId();
    const made = spec([node('a'), node('b', { dependsOn: ['a'] })]);
    const options = { start: true, canonical: 'x', id };
    await expect(life.executions.create(made, options)).rejects.toMatchObject({ code: 'LATCHED' });
    expect(staged).not.toHaveBeenCalled();
    expect(valkey.scripts.calls.get('commitExecution')).toBe(commits);
    expect(await keysOf(id)).toEqual([]);
    // An execution that does not start may be created all the same.
    expect(await life.executions.create(made, { ...options, start: false })).toEqual({ id, created: true });
    staged.mockClear();
    // The execution exists already, so nothing of it is staged again.
    expect(await life.executions.create(made, options)).toEqual({ id, created: true });
    expect(staged).not.toHaveBeenCalled();
    staged.mockRestore();
  });

  it('removes the staged keys when the latch comes in between', async () => {
    const id = life.executions.newId();
    const json = valkey.scripts.json.bind(valkey.scripts);
    let before: string[] = [];
    const between = jest.spyOn(valkey.scripts, 'json').mockImplementation(async (name, ...rest) => {
      if (name === 'commitExecution') {
        before = await keysOf(id);
        between.mockImplementation(json);
        await latch({ scope: { type: 'all' } });
      }
      return json(name, ...rest);
    });
    const made = spec([node('a'), node('b', { dependsOn: ['a'] })]);
    await expect(life.executions.create(made, { start: true, canonical: 'x', id })).rejects.toMatchObject({
      code: 'LATCHED',
    });
    between.mockRestore();
    expect(before).toHaveLength(8);
    expect(await keysOf(id)).toEqual([]);
  });
});

describe('a record that cannot be read', () => {
  it('R22 R53 an execution whose record is of another type hides no other one that a latch paused', async () => {
    const [broken, id] = [await create([node('a')]), await create([node('a')])];
    await latch({ scope: { type: 'pool', pool: 'other' }, kind: 'freeze', id: 'lat_held' });
    for (const one of [broken, id])
      await life.executions.pause(one, { mode: 'drain', actor: 'me', heldBy: 'lat_held' });
    await valkey.redis
      .multi()
      .del(valkey.keys.execution(broken))
      .set(valkey.keys.execution(broken), 'x')
      .exec();
    expect(await life.executions.held()).toContainEqual({ id, latchId: 'lat_held' });
  });
});
