import { limitNames, type AgentJob, type DispatchEntry, type LimitRule } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import type { Claim } from './agent-store.types';
import type { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;
useLife((rig) => ({ valkey, life } = rig));
let version = 0;
beforeEach(async () => {
  await valkey.redis.flushall();
  version = 0;
});

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const OTHER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZY';

/** Sets limits as LimitPolicy does, without an audit entry. */
async function set(items: readonly LimitRule[]): Promise<void> {
  const { redis, keys } = valkey;
  const fields = ['version', String(++version), 'set', JSON.stringify(items)] as const;
  await redis.hset(keys.shard(keys.control, 'limits'), ...fields);
  await life.slots.copy();
}

/** Submits executions of one node each. Resolves with the entries that their roots left in the outbox. */
async function submit(count: number, labels: Record<string, string>, over: Parameters<typeof node>[1] = {}) {
  const entries: DispatchEntry[] = [];
  for (let i = 0; i < count; i++) {
    const id = await createExecution(life, spec([node('a', over)], { labels }));
    entries.push(...(await advanceAll(life, id)));
  }
  return entries;
}

const claim = async (job: AgentJob, worker = WORKER): Promise<Claim> =>
  life.agents.claim(job, worker, `${worker}-${job.agentId}`);
async function start(job: AgentJob): Promise<Extract<Claim, { claimed: true }>> {
  const granted = await claim(job);
  if (!granted.claimed) throw new Error(`refused: ${granted.why}`);
  return granted;
}
const end = async (granted: Extract<Claim, { claimed: true }>): Promise<string[]> => {
  const { entries } = await life.agents.finish(granted.fence, { state: 'failed' });
  return entries.map(({ agentId }) => agentId);
};
const running = async () => life.agents.liveEverywhere();
const counts = async (): Promise<[held: number, waiting: number]> => {
  const { held, waiting } = await life.slots.describe();
  return [held, waiting];
};
/** The keys of the limits that are left in the control slot, besides the record itself and counters. */
const leftovers = async (): Promise<string[]> =>
  (await valkey.redis.keys('*:lim:*')).filter((key) => !/:lim:(grants|places|turns)$/.test(key));

const asking = (labels: Record<string, string>, pool = 'default') => ({ pool, labels });

it('R35 the newest copy of the limits is the highest version that a shard has', async () => {
  expect(await life.slots.newestCopy()).toBe(0);
  await set([{ by: 'fleet', running: 1 }]);
  expect(await life.slots.newestCopy()).toBe(version);
  // The state after a failover of the control slot that lost a change.
  const { redis, keys } = valkey;
  await redis.hset(keys.shard(keys.tags()[1] as string, 'limits'), 'version', String(version + 7));
  expect(await life.slots.newestCopy()).toBe(version + 7);
});

it('R35 a look names the full limit, the time until a minute of it is over, and reserves nothing', async () => {
  const acme = asking({ tenant: 'acme' });
  expect(await life.slots.fullLimit([acme])).toBeUndefined();
  await set([
    { by: 'label.tenant', running: 1 },
    { by: 'pool', perMinute: 2 },
  ]);
  for (let i = 0; i < 3; i++) expect(await life.slots.fullLimit([acme])).toBeUndefined();
  const [first, second] = await submit(2, { tenant: 'acme' });
  const running = await start(first!);
  expect(await life.slots.fullLimit([asking({}), acme])).toEqual({ limit: 'label.tenant=acme' });
  expect(await life.slots.fullLimit([asking({ tenant: 'other' }), asking({})])).toBeUndefined();
  // Another attempt waits. A later one waits behind it, although there is room for a moment.
  expect((await claim(second!)).claimed).toBe(false);
  await end(running);
  expect(await life.slots.fullLimit([acme])).toMatchObject({ limit: 'label.tenant=acme' });
  await start(second!);
  const full = await life.slots.fullLimit([asking({ tenant: 'other' })]);
  expect(full).toMatchObject({ limit: 'pool=default' });
  expect(full?.waitMs).toBeGreaterThan(0);
  expect(full?.waitMs).toBeLessThanOrEqual(60_000);
  expect(await life.slots.fullLimit([asking({ tenant: 'other' }, 'gpu')])).toBeUndefined();
});

/** Makes grants old enough to be compared with the agents that run. */
async function age(): Promise<void> {
  const key = valkey.keys.shard(valkey.keys.control, 'lim:held');
  for (const [id, text] of Object.entries(await valkey.redis.hgetall(key)))
    await valkey.redis.hset(key, id, JSON.stringify({ ...(JSON.parse(text) as object), at: 0 }));
}

describe('R35 a limit', () => {
  it('is asked by every claim, tells which one is full, and is free again with the end that was stored', async () => {
    await set([{ by: 'label.tenant', running: 2 }]);
    const [a, b, c] = await submit(3, { tenant: 'acme' });
    const [other] = await submit(1, { tenant: 'other' });
    const [first, second] = [await start(a!), await start(b!)];
    expect(await claim(c!)).toEqual({ claimed: false, why: 'LIMITED', limit: 'label.tenant=acme' });
    expect((await start(other!)).claimed).toBe(true);
    // The same attempt asks again, and keeps its place.
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED' });
    expect(await counts()).toEqual([3, 1]);
    const { items } = await life.executions.nodes(c!.executionId);
    expect(items).toEqual([expect.objectContaining({ state: 'ready', limit: 'label.tenant=acme' })]);
    expect(await life.executions.node(c!.executionId, 'a')).toMatchObject({ limit: 'label.tenant=acme' });
    expect((await life.executions.nodes(a!.executionId)).items[0]).not.toHaveProperty('limit');

    expect(await end(first)).toEqual([c!.agentId]);
    expect(await end(first)).toEqual([]);
    expect(await life.slots.isWoken(c!.agentId)).toBe(true);
    const third = await start(c!);
    expect(await claim(c!)).toMatchObject({ claimed: true });
    expect(await counts()).toEqual([3, 0]);
    await end(second);
    await end(third);
    await end(await start(other!));
    expect(await counts()).toEqual([0, 0]);
    expect(await leftovers()).toEqual([]);
  });

  it('of which there are none costs a claim nothing, and a drill’s own pool has none', async () => {
    const [free] = await submit(1, { tenant: 'acme' });
    await start(free!);
    await set([{ by: 'fleet', running: 1 }]);
    const [drill, blocked] = [
      ...(await submit(1, {}, { pool: '@wrk_1' })),
      ...(await submit(1, { tenant: 'acme' })),
    ];
    await start(blocked!);
    await start(drill!);
    expect(await counts()).toEqual([1, 0]);
  });

  it('is kept when two workers claim at the same time, with one grant for one attempt', async () => {
    await set([{ by: 'pool', running: 5 }]);
    const jobs = await submit(40, {});
    const claims = await Promise.all(jobs.flatMap((job) => [claim(job), claim(job, OTHER)]));
    expect(claims.filter(({ claimed }) => claimed)).toHaveLength(5);
    expect(await counts()).toEqual([5, 35]);
    expect(await life.agents.liveEverywhere()).toHaveLength(5);
  });

  it('that is set while agents run counts those too; one that is lifted lets all go on', async () => {
    const [a, b, c] = await submit(3, {});
    const first = await start(a!);
    await set([{ by: 'fleet', running: 1 }]);
    expect(await life.slots.count(running)).toBe(1);
    expect(await life.slots.count(running)).toBe(0);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED' });
    // A new rule: slots in use count under its names from now on.
    await set([{ by: 'pool', running: 1 }]);
    expect(await life.slots.count(running)).toBe(1);
    await set([]);
    const woken = await life.slots.sweep();
    expect(woken.map(({ agentId }) => agentId).sort()).toEqual([b!.agentId, c!.agentId].sort());
    await start(b!);
    await start(c!);
    await end(first);
    await age();
    const wokenKey = valkey.keys.shard(valkey.keys.control, 'lim:woken');
    for (const job of [b!, c!]) await valkey.redis.zadd(wokenKey, 1, job.agentId);
    await life.slots.sweep();
    expect(await counts()).toEqual([0, 0]);
    expect(await leftovers()).toEqual([]);
  });

  it('that was set by a process that died before its count gives no slot until another process counts', async () => {
    const [a, b] = await submit(2, {});
    await start(a!);
    await set([{ by: 'fleet', running: 2 }]);
    const { redis, keys } = valkey;
    await redis.hset(keys.shard(keys.control, 'limits'), 'counting', String(version));
    expect(await life.slots.isCounting()).toBe(true);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await life.slots.sweep()).toEqual([]);
    expect(await life.slots.count(running)).toBe(1);
    expect(await life.slots.isCounting()).toBe(false);
    expect((await life.slots.sweep()).map(({ agentId }) => agentId)).toEqual([b!.agentId]);
    await start(b!);
    expect(await counts()).toEqual([2, 0]);
  });

  it('by the minute counts starts, and is free again as time passes', async () => {
    await set([{ by: 'fleet', perMinute: 2 }]);
    const [a, b, c] = await submit(3, {});
    await end(await start(a!));
    await start(b!);
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED', limit: 'fleet' });
    expect(await life.slots.sweep()).toEqual([]);
    const { redis, keys } = valkey;
    const rate = keys.shard(keys.control, 'lim:rate:fleet');
    await redis.zadd(rate, (await valkey.timeAt(rate)) - 60_001, a!.agentId);
    expect((await life.slots.sweep()).map(({ agentId }) => agentId)).toEqual([c!.agentId]);
    await start(c!);
  });
});

describe('R35 a slot', () => {
  it('of a claim that never came is given back behind a fence: the grant starts nothing from then on', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b] = await submit(2, {});
    const names = ['fleet'];
    const answer = await life.slots.take(a!, names);
    if (!('grant' in answer)) throw new Error('no slot');
    expect(await life.slots.take(a!, names)).toEqual(answer);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    // The worker may still be about to use the grant.
    expect(await life.slots.sweep()).toEqual([]);
    await age();
    expect((await life.slots.sweep()).map(({ agentId }) => agentId)).toEqual([b!.agentId]);
    await start(b!);
    const args = [a!.nodeId, a!.agentId, 1, WORKER, 'late', answer.grant, String(version)];
    const [head = ''] = (await life.shards.raw('claimNode', a!.executionId, args)) as string[];
    expect(JSON.parse(head)).toMatchObject({ refused: 'LIMITED' });
    expect(await life.agents.liveEverywhere()).toHaveLength(1);
  });

  it('of an attempt that runs is not given back by any comparison', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b] = await submit(2, {});
    await start(a!);
    await age();
    expect(await life.slots.sweep()).toEqual([]);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await counts()).toEqual([1, 1]);
  });

  it('that a failover lost is counted again', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b] = await submit(2, {});
    const first = await start(a!);
    await valkey.redis.del(...(await leftovers()));
    expect(await life.slots.count(running)).toBe(1);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await end(first)).toEqual([b!.agentId]);
  });

  it('is given back when the claim is refused for another reason', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b, c] = await submit(3, {});
    expect(await life.slots.gate([a!, b!, c!])).toEqual([true, false, false]);
    expect(await counts()).toEqual([0, 2]);
    const told: DispatchEntry[] = [];
    const subscription = life.agents.woken$.subscribe((entries) => told.push(...entries));
    await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    await life.executions.stop(b!.executionId, { reason: 'user_abort' });
    await advanceAll(life, b!.executionId);
    // The attempt was cancelled: it waits no more.
    expect(await claim(b!)).toMatchObject({ why: 'NOT_RUNNING' });
    expect(await counts()).toEqual([1, 1]);
    expect(told).toEqual([]);
    // Two claims with the same grant: one is granted, and the refusal of the other takes nothing from it.
    expect(await claim(a!, OTHER)).toMatchObject({ why: 'TAKEN' });
    expect(await counts()).toEqual([1, 1]);
    const answer = await life.slots.take(a!, ['fleet']);
    expect(await life.slots.giveBack(a!.agentId, 'grant' in answer ? answer.grant : 0)).toEqual([]);
    expect(await counts()).toEqual([1, 1]);
    subscription.unsubscribe();
  });

  it('under a latch is not taken, and the attempts behind it get their turn', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b] = await submit(2, {});
    const first = await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await end(first)).toEqual([b!.agentId]);
    const [c] = await submit(1, {});
    expect(await life.slots.gate([c!])).toEqual([false]);
    await life.executions.pause(b!.executionId, { mode: 'drain', actor: 'ann' });
    const told: DispatchEntry[] = [];
    const subscription = life.agents.woken$.subscribe((entries) => told.push(...entries));
    expect(await claim(b!)).toMatchObject({ why: 'NOT_RUNNING' });
    expect(told.map(({ agentId }) => agentId)).toEqual([c!.agentId]);
    subscription.unsubscribe();
  });
});

describe('R35 waiting attempts', () => {
  it('is served in turn: a tenant with 2,000 waiting delays another’s next one by one slot at most', async () => {
    await set([
      { by: 'fleet', running: 2 },
      { by: 'label.tenant', running: 100 },
    ]);
    const [exe] = await submit(1, {});
    const made = (tenant: string, n: number): DispatchEntry => ({
      ...exe!,
      agentId: `${exe!.agentId.slice(0, -4)}-${n}-1`,
      limits: ['fleet', `label.tenant=${tenant}`],
    });
    const many = Array.from({ length: 2_002 }, (_, n) => made('big', n));
    const passed: boolean[] = [];
    for (let i = 0; i < many.length; i += 200)
      passed.push(...(await life.slots.gate(many.slice(i, i + 200))));
    expect(passed.filter(Boolean)).toHaveLength(2);
    for (const one of many.slice(0, 2))
      expect(await life.slots.take(one, one.limits!)).toHaveProperty('grant');
    const next = async (ended: DispatchEntry): Promise<DispatchEntry> => {
      const [woken, ...more] = await life.slots.free([ended.agentId], 'ended');
      expect(more).toEqual([]);
      expect(await life.slots.take(woken!, woken!.limits!)).toHaveProperty('grant');
      return woken!;
    };
    const third = await next(many[0]!);
    expect(third.agentId).toBe(many[2]!.agentId);
    const small = [made('small', 5_000), made('small', 5_001), made('small', 5_002)];
    expect(await life.slots.gate(small)).toEqual([false, false, false]);
    const order: string[] = [];
    let last = third;
    for (let i = 0; i < 6; i++) {
      last = await next(last);
      order.push(last.limits![1]!);
    }
    const [big, little] = ['label.tenant=big', 'label.tenant=small'];
    expect(order).toEqual([little, big, little, big, little, big]);
    expect(await counts()).toEqual([2, 1_996]);
  });

  it('goes by priority within its tenant, and a tenant at its own limit does not delay the others', async () => {
    await set([
      { by: 'fleet', running: 2 },
      { by: 'label.tenant', running: 1 },
    ]);
    const [a] = await submit(1, { tenant: 'a' });
    const [low] = await submit(1, { tenant: 'a' }, { priority: 1 });
    const [high] = await submit(1, { tenant: 'a' }, { priority: 9 });
    const [b, c] = [...(await submit(1, { tenant: 'b' })), ...(await submit(1, { tenant: 'c' }))];
    const first = await start(a!);
    const second = await start(b!);
    for (const job of [low!, high!, c!]) expect(await claim(job)).toMatchObject({ why: 'LIMITED' });
    expect(await end(second)).toEqual([c!.agentId]);
    const third = await start(c!);
    expect(await end(first)).toEqual([high!.agentId]);
    await end(await start(high!));
    await end(third);
    await end(await start(low!));
    expect(await leftovers()).toEqual([]);
  });

  it('and got its turn, but was never claimed, is handed over again; its place goes to others meanwhile', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b, c] = await submit(3, {});
    const first = await start(a!);
    expect(await life.slots.gate([b!, c!])).toEqual([false, false]);
    expect(await end(first)).toEqual([b!.agentId]);
    // The process that should have handed the attempt over died: the ticket lapses.
    const { redis, keys } = valkey;
    const lapse = async (key: string): Promise<void> => {
      await redis.zadd(keys.shard(keys.control, key), 1, b!.agentId);
    };
    await lapse('lim:tickets:fleet');
    await lapse('lim:woken');
    const again = (await life.slots.sweep()).map(({ agentId }) => agentId);
    expect(again.sort()).toEqual([b!.agentId, c!.agentId].sort());
    expect(await life.slots.sweep()).toEqual([]);
    expect(await life.slots.gate([b!])).toEqual([true]);
    await start(c!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
  });

  it('and was cancelled leaves its place', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b, c] = await submit(3, {});
    await start(a!);
    await life.slots.gate([b!, c!]);
    expect(await life.slots.free([b!.agentId, 'agt_unknown'], 'waiting')).toEqual([]);
    expect(await counts()).toEqual([1, 1]);
    await life.slots.free([c!.agentId], 'waiting');
    expect(await counts()).toEqual([1, 0]);
    expect(await life.slots.limitsOf([b!.agentId])).toEqual([undefined]);
  });
});

it('R35 the names that an attempt counts under are the same in Lua and TypeScript', async () => {
  const rules: LimitRule[] = [
    { by: 'label.tenant', running: 1 },
    { by: 'fleet', running: 1 },
    { by: 'pool', running: 1 },
    { by: 'label.tenant', perMinute: 5 },
    { by: 'label.a.b/c', running: 1 },
  ];
  await set(rules);
  const cases = [
    [{}, 'default', {}],
    [{ tenant: 'x=y' }, 'gpu', { 'a.b/c': 'é' }],
    [{ tenant: 'one' }, 'gpu', { tenant: 'two' }],
    [{ tenant: 'one' }, '@wrk_1', {}],
  ] as const;
  for (const [labels, pool, own] of cases) {
    const [entry] = await submit(1, labels, { pool, labels: own });
    const names = limitNames(rules, pool, { ...labels, ...own });
    expect(entry!.limits ?? []).toEqual(names);
  }
});
