import type { AgentJob, DispatchEntry, LimitRule } from '#libs/contracts';
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
const control = (name: string): string => valkey.keys.shard(valkey.keys.control, name);

/** Sets limits as LimitPolicy does, without an audit entry. */
async function set(items: readonly LimitRule[]): Promise<void> {
  await valkey.redis.hset(control('limits'), 'version', String(++version), 'set', JSON.stringify(items));
  await life.slots.copy();
}

async function submit(
  count: number,
  labels: Record<string, string> = {},
  over: Parameters<typeof node>[1] = {},
) {
  const entries: DispatchEntry[] = [];
  for (let i = 0; i < count; i++) {
    const id = await createExecution(life, spec([node('a', over)], { labels }));
    entries.push(...(await advanceAll(life, id)));
  }
  return entries;
}

/** The attempts of one execution, which take few calls to make: tickets lapse by the real time too. */
async function together(count: number, over: Parameters<typeof node>[1] = {}): Promise<DispatchEntry[]> {
  const nodes = Array.from({ length: count }, (_, i) => node(`n${i}`, over));
  return advanceAll(life, await createExecution(life, spec(nodes)));
}

it('R35 a claim that is granted a slot again and again, and never has it by its next try, is refused at last', async () => {
  await set([{ by: 'fleet', running: 9 }]);
  const [job] = await submit(1);
  const take = jest.spyOn(life.slots, 'take').mockResolvedValue({ grant: 0 });
  try {
    expect(await claim(job as AgentJob)).toEqual({ claimed: false, why: 'LIMITED' });
    expect(take.mock.calls.length).toBeLessThan(10);
  } finally {
    take.mockRestore();
  }
});

it('R35 passes go on while there is more to wake', async () => {
  await set([{ by: 'fleet', running: 1 }]);
  const jobs = await submit(205);
  expect((await life.slots.gate(jobs)).filter(Boolean)).toHaveLength(1);
  await set([]);
  const woken: string[] = [];
  let passes = 0;
  for await (const entries of life.slots.sweeps(60_000)) {
    passes += 1;
    woken.push(...idsOf(entries));
  }
  expect(woken.toSorted()).toEqual(idsOf(jobs.slice(1)).toSorted());
  expect(passes).toBe(2);
});

describe('R35 slots by odd records', () => {
  it('an attempt whose class waits for no limit any more names none', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [, second] = await submit(2);
    await life.slots.gate([second as DispatchEntry, ...(await submit(1))]);
    await life.slots.gate(await submit(1));
    const waiting = await valkey.redis.hkeys(control('lim:waiting'));
    expect(waiting.length).toBeGreaterThan(0);
    expect(await life.slots.limitsOf([waiting[0] as string, 'another'])).toEqual(['fleet', undefined]);
    await valkey.redis.del(control('lim:at'));
    expect(new Set(await life.slots.limitsOf(waiting))).toEqual(new Set([undefined]));
  });

  it('more agents than one call compares are counted all the same', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const agents = Array.from({ length: 205 }, (_, i) => ({
      id: `agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-${i}-1`,
      pool: 'default',
      state: 'running' as const,
    }));
    expect(await life.slots.count(async () => agents)).toBe(205);
    expect(await life.slots.count(async () => agents)).toBe(0);
  });

  it('the slot of an id that names no agent is passed over', async () => {
    expect(await life.slots.giveBack('nonsense', 1)).toEqual([]);
  });
});

const claim = async (job: AgentJob): Promise<Claim> => life.agents.claim(job, WORKER, job.agentId);
async function start(job: AgentJob): Promise<Extract<Claim, { claimed: true }>> {
  const granted = await claim(job);
  if (!granted.claimed) throw new Error(`refused: ${granted.why}`);
  return granted;
}
const idsOf = (entries: readonly AgentJob[]): string[] => entries.map(({ agentId }) => agentId);
const end = async (granted: Extract<Claim, { claimed: true }>): Promise<string[]> =>
  idsOf((await life.agents.finish(granted.fence, { state: 'failed' })).entries);
const swept = async (): Promise<string[]> => idsOf(await life.slots.sweep());

/** Makes every ticket so old that it lapsed a moment ago. */
async function lapse(): Promise<void> {
  const { redis } = valkey;
  const ago = (await valkey.timeAt(control('lim:held'))) - 1;
  const names = ['*:lim:tickets:*', '*:lim:woken', '*:lim:out:*'];
  for (const key of (await Promise.all(names.map(async (name) => redis.keys(name)))).flat())
    for (const id of await redis.zrange(key, 0, '-1')) await redis.zadd(key, ago, id);
}

describe('R35 limits that change', () => {
  it('leave no attempt waiting twice: the attempts behind it get their turn', async () => {
    const [a, b, c] = await submit(3, { tenant: 'acme' });
    await set([{ by: 'fleet', running: 1 }]);
    const first = await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    await set([
      { by: 'fleet', running: 1 },
      { by: 'label.tenant', running: 3 },
    ]);
    await life.slots.count(async () => life.agents.liveEverywhere());
    // The attempt is handed over again without the names of the new limits, so no gate sees it.
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await valkey.redis.keys('*:lim:q:*')).toHaveLength(1);
    await set([
      { by: 'fleet', running: 2 },
      { by: 'label.tenant', running: 3 },
    ]);
    await start(b!);
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED' });
    expect(await end(first)).toEqual([c!.agentId]);
    await end(await start(c!));
    expect(await swept()).toEqual([]);
    expect(await valkey.redis.keys('*:lim:q:*')).toEqual([]);
  });

  it('and left an attempt in a queue without its record do not stop those behind it', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b] = await submit(2);
    const first = await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    const [queue] = await valkey.redis.keys('*:lim:q:*');
    await valkey.redis.zadd(queue!, 0, 'agt_gone');
    expect(await end(first)).toEqual([b!.agentId]);
  });

  it('are asked for a slot that was granted under those before', async () => {
    await set([{ by: 'fleet', running: 2 }]);
    const [a, b, c] = await submit(3);
    const take = async (job?: DispatchEntry) => life.slots.take(job!, ['fleet']);
    const before = await take(a);
    expect(await take(a)).toEqual(before);
    expect(await take(b)).toHaveProperty('grant');
    await set([{ by: 'fleet', running: 1 }]);
    expect(await take(b)).toEqual({ limit: 'fleet' });
    expect(await take(a)).toHaveProperty('grant');
    expect(await life.slots.describe()).toMatchObject({ held: 1, waiting: 1 });
    // The grant came with the names of a shard that had no copy yet.
    expect(await life.slots.take(a!, ['fleet', 'pool=default'])).toHaveProperty('grant');
    expect(await valkey.redis.smembers(control('lim:run:pool=default'))).toEqual([a!.agentId]);
    // Nobody has counted the running agents yet.
    await set([{ by: 'fleet', running: 5 }]);
    await valkey.redis.hset(control('limits'), 'counting', String(version));
    expect(await take(a)).toEqual({ limit: 'fleet' });
    expect(await take(c)).toEqual({ limit: 'fleet' });
  });

  it('take no slot from an agent that runs, though a second worker asks for it late', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a] = await submit(1);
    await start(a!);
    await set([{ by: 'fleet', running: 2 }]);
    expect(await life.slots.count(async () => life.agents.liveEverywhere())).toBe(0);
    const held = await valkey.redis.hget(control('lim:held'), a!.agentId);
    expect(await life.slots.take(a!, ['fleet'])).toEqual({ grant: (JSON.parse(held!) as { g: number }).g });
    await set([{ by: 'fleet', running: 1 }]);
    // The attempt waits until the count, and the count finds that it runs.
    await valkey.redis.hset(control('limits'), 'counting', String(version));
    expect(await life.slots.take(a!, ['fleet'])).toEqual({ limit: 'fleet' });
    expect(await life.slots.count(async () => life.agents.liveEverywhere())).toBe(1);
    expect(await life.slots.describe()).toMatchObject({ held: 1, waiting: 0 });
  });
});

describe('R35 a pool that takes no jobs', () => {
  it('keeps no slot of a limit that it shares from other pools', async () => {
    await set([{ by: 'fleet', running: 2 }]);
    const gone = await submit(8, {}, { pool: 'gone' });
    expect(await life.slots.gate(gone)).toEqual([true, true, ...Array.from({ length: 6 }, () => false)]);
    await lapse();
    expect(await swept()).toEqual(idsOf(gone.slice(2, 4)));
    await lapse();
    // These are handed over again, since the first hand-over may have been lost. The next ones of that pool are not.
    expect((await swept()).sort()).toEqual(idsOf(gone.slice(2, 4)).sort());
    const busy = await submit(2);
    expect(await life.slots.gate(busy)).toEqual([true, true]);
    for (const job of busy) await end(await start(job));
    // The pool takes jobs again.
    const first = await start(gone[2]!);
    expect(await swept()).toEqual(idsOf(gone.slice(4, 5)));
    expect(await end(first)).toEqual(idsOf(gone.slice(5, 6)));
  });

  /** Two tickets of each of those pools lapse. Then 60 attempts of a served pool wait, and the limit is raised. */
  async function raise(unserved: readonly string[]): Promise<DispatchEntry[]> {
    const [fleet, most] = [2 * unserved.length, 1_000];
    await set([{ by: 'fleet', running: fleet }]);
    // These take the room, so that the ones behind them wait.
    await life.slots.gate(await together(fleet));
    for (const pool of unserved) await life.slots.gate(await together(8, { pool }));
    await lapse();
    expect(await swept()).toHaveLength(fleet);
    await lapse();
    await life.slots.gate(await together(fleet, { pool: 'more' }));
    const served = await together(60);
    expect(await life.slots.gate(served)).toEqual(served.map(() => false));
    await set([{ by: 'fleet', running: most }]);
    await life.slots.count(async () => []);
    return served;
  }

  it.each([1, 3, 40])(
    'keeps no room from a pool that is served, in one pass, beside %i like it',
    async (n) => {
      const served = await raise(Array.from({ length: n }, (_, i) => `gone${i}`));
      const woken = await swept();
      expect(idsOf(served).filter((id) => woken.includes(id))).toHaveLength(60);
    },
  );
});

describe('R35 a server whose clock was an hour ahead and is right again', () => {
  const HOUR = 3_600_000;
  /** Moves every stored time of the limits: of tickets, of starts, or of both. */
  async function move(ms: number, names = ['*:lim:tickets:*', '*:lim:woken', '*:lim:out:*', '*:lim:rate:*']) {
    const { redis } = valkey;
    for (const key of (await Promise.all(names.map(async (name) => redis.keys(name)))).flat())
      for (const id of await redis.zrange(key, 0, '-1')) await redis.zincrby(key, ms, id);
  }

  it('counts a start for a minute, and not for that hour', async () => {
    await set([{ by: 'fleet', perMinute: 2 }]);
    const [a, b, c] = await submit(3);
    await end(await start(a!));
    await start(b!);
    await move(HOUR);
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED' });
    const full = await life.slots.fullLimit([{ pool: 'default', labels: {} }]);
    expect(full?.waitMs).toBeGreaterThan(59_000);
    expect(full?.waitMs).toBeLessThanOrEqual(60_000);
    await move(-60_001);
    expect(await swept()).toEqual([c!.agentId]);
    await start(c!);
  });

  it('lets a ticket lapse, and hands over woken attempts again, after their twenty seconds', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b, c] = await submit(3);
    expect(await life.slots.gate([a!, b!, c!])).toEqual([true, false, false]);
    await move(HOUR);
    expect(await swept()).toEqual([]);
    await move(-20_001);
    expect(await swept()).toEqual([b!.agentId]);
    await move(HOUR);
    expect(await swept()).toEqual([]);
    await move(-20_001);
    expect((await swept()).toSorted()).toEqual(idsOf([b!, c!]).toSorted());
  });

  it('knows a pool that takes no jobs by its next two tickets', async () => {
    await set([{ by: 'fleet', running: 2 }]);
    await life.slots.gate(await submit(8, {}, { pool: 'gone' }));
    await lapse();
    expect(await swept()).toHaveLength(2);
    await move(HOUR);
    expect(await swept()).toEqual([]);
    await move(-20_001);
    await swept();
    await move(-20_001);
    await swept();
    expect(await life.slots.gate(await submit(2))).toEqual([true, true]);
  });

  it('gives back a slot that nothing uses', async () => {
    const { redis } = valkey;
    await set([{ by: 'fleet', running: 1 }]);
    const [a] = await submit(1);
    await life.slots.take(a!, ['fleet']);
    const slot = JSON.parse((await redis.hget(control('lim:held'), a!.agentId)) ?? '') as { at: number };
    const later = JSON.stringify({ ...slot, at: slot.at + HOUR });
    await redis.hset(control('lim:held'), a!.agentId, later);
    await swept();
    expect(await life.slots.describe()).toMatchObject({ held: 0 });
  });
});

describe('R35 the order of arrival', () => {
  it('is kept where room comes by a change: a new attempt waits behind those that wait, which are woken at once', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b, c, d, e] = await submit(5);
    const first = await start(a!);
    expect(await life.slots.gate([b!, c!])).toEqual([false, false]);
    const told: string[] = [];
    const subscription = life.agents.woken$.subscribe((entries) => told.push(...idsOf(entries)));
    await set([{ by: 'fleet', running: 2 }]);
    await life.slots.count(async () => life.agents.liveEverywhere());
    expect(await life.slots.gate([d!])).toEqual([false]);
    expect(told).toEqual([b!.agentId]);
    await set([{ by: 'fleet', running: 3 }]);
    await life.slots.count(async () => life.agents.liveEverywhere());
    // The same for an attempt that was handed over without a gate, and asks for a slot.
    expect(await claim(e!)).toMatchObject({ why: 'LIMITED' });
    expect(told).toEqual(idsOf([b!, c!]));
    subscription.unsubscribe();
    await start(b!);
    await start(c!);
    expect(await end(first)).toEqual([d!.agentId]);
  });

  it('lets nobody wait behind an attempt that cannot start: the next one passes in the same call', async () => {
    await set([{ by: 'fleet', running: 2 }]);
    await life.slots.gate(await submit(8, {}, { pool: 'gone' }));
    await lapse();
    await life.slots.sweep();
    await lapse();
    const [a, b] = await submit(2);
    expect(await life.slots.gate([a!])).toEqual([true]);
    await start(b!);
    expect(await life.slots.describe()).toMatchObject({ held: 1 });
  });

  it('is kept by an attempt that passed the gate: the gate is repeatable, and a lapsed ticket is no new arrival', async () => {
    await set([{ by: 'fleet', running: 2 }]);
    const [a, b, c, d] = await submit(4);
    expect(await life.slots.gate([a!, b!, c!, d!])).toEqual([true, true, false, false]);
    expect(await life.slots.gate([a!, b!, c!])).toEqual([true, true, false]);
    await lapse();
    expect(await swept()).toEqual(idsOf([c!, d!]));
    expect(await life.slots.gate([a!])).toEqual([true]);
    await start(a!);
    await start(b!);
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED' });
  });

  it('gives a woken attempt its room before one that comes without a ticket', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b, c] = await submit(3);
    const first = await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    expect(await end(first)).toEqual([b!.agentId]);
    expect(await claim(c!)).toMatchObject({ why: 'LIMITED' });
    await start(b!);
  });
});

describe('R35 starts of the last minute', () => {
  const starts = async (): Promise<number> => valkey.redis.zcard(control('lim:rate:fleet'));
  /** The worker dies after it stored the end and before it gave the slot back. */
  const endWithoutReturn = async (granted: Extract<Claim, { claimed: true }>): Promise<void> => {
    const free = jest.spyOn(life.slots, 'free').mockRejectedValueOnce(new Error('died'));
    expect(await end(granted)).toEqual([]);
    free.mockRestore();
  };

  it('stay counted when the janitor gives the slot of an ended attempt back', async () => {
    await set([{ by: 'fleet', perMinute: 2, running: 2 }]);
    const [a] = await submit(1);
    await endWithoutReturn(await start(a!));
    const held = JSON.parse((await valkey.redis.hget(control('lim:held'), a!.agentId))!) as object;
    await valkey.redis.hset(control('lim:held'), a!.agentId, JSON.stringify({ ...held, at: 0 }));
    await life.slots.sweep();
    expect(await life.slots.describe()).toMatchObject({ held: 0 });
    expect(await starts()).toBe(1);
  });

  it('stay counted when a second worker comes too late with the same grant, and not when nothing started', async () => {
    await set([{ by: 'fleet', perMinute: 2, running: 2 }]);
    const [a, b] = await submit(2);
    const take = life.slots.take.bind(life.slots);
    const spy = jest.spyOn(life.slots, 'take').mockImplementationOnce(async (...args) => {
      const answer = await take(...args);
      await endWithoutReturn(await start(a!));
      return answer;
    });
    expect(await life.agents.claim(a!, WORKER.replace(/Z$/, 'Y'), 'late')).toMatchObject({
      why: 'NOT_RUNNING',
    });
    expect(await life.slots.describe()).toMatchObject({ held: 0 });
    expect(await starts()).toBe(1);
    spy.mockImplementationOnce(async (...args) => {
      const answer = await take(...args);
      await life.executions.pause(b!.executionId, { mode: 'drain', actor: 'ann' });
      return answer;
    });
    expect(await claim(b!)).toMatchObject({ why: 'NOT_RUNNING' });
    expect(await starts()).toBe(1);
    spy.mockRestore();
  });

  it('and slots are not those of an agent that ended while it was counted', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a] = await submit(1);
    const granted = await start(a!);
    await end(granted);
    const agent = await life.agents.get(a!.agentId);
    expect(await life.slots.count(async () => [agent])).toBe(0);
    expect(await life.slots.describe()).toMatchObject({ held: 0 });
  });
});

describe('R35 the state after a failover or a crash', () => {
  it('is mended from a shard’s newer copy where the control slot lost the last change', async () => {
    await set([{ by: 'fleet', running: 5 }]);
    await set([{ by: 'fleet', running: 1 }]);
    const before = JSON.stringify([{ by: 'fleet', running: 5 }]);
    await valkey.redis.hset(control('limits'), 'version', '1', 'set', before);
    const [a, b] = await submit(2);
    await life.slots.copy();
    expect(await life.slots.limits()).toEqual({ version: 2, items: [{ by: 'fleet', running: 1 }] });
    // Agents that started meanwhile must be counted first.
    expect(await life.slots.isCounting()).toBe(true);
    await life.slots.count(async () => life.agents.liveEverywhere());
    await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    await valkey.redis.del(control('limits'));
    await life.slots.copy();
    expect(await life.slots.limits()).toMatchObject({ version: 2 });
  });

  it('is no woken attempt that is handed over again after its end', async () => {
    await set([{ by: 'fleet', running: 1 }]);
    const [a, b] = await submit(2);
    const first = await start(a!);
    expect(await life.slots.gate([b!])).toEqual([false]);
    expect(await end(first)).toEqual([b!.agentId]);
    await life.executions.stop(b!.executionId, { reason: 'user_abort' });
    await advanceAll(life, b!.executionId);
    await lapse();
    expect(await swept()).toEqual([]);
    expect(await life.slots.describe()).toMatchObject({ held: 0, waiting: 0 });
  });

  it('is no fence that a late look lowers', async () => {
    const { keys, scripts, redis } = valkey;
    const [a] = await submit(1);
    const tag = keys.tagOf(a!.executionId);
    const look = async (grant: number) =>
      scripts.json('fenceSlots', keys.shard(tag, 'outbox'), [tag, 60_000, `${a!.agentId} ${grant}`]);
    await look(7);
    await look(10);
    await look(9);
    expect(await redis.get(keys.shard(tag, `void:${a!.agentId}`))).toBe('10');
  });
});
