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

/** Sets limits as LimitPolicy does, without its entry in the audit log. */
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

/** Tickets were given so long ago that they have lapsed, a moment ago. */
async function lapse(): Promise<void> {
  const { redis } = valkey;
  const ago = (await valkey.timeAt(control('lim:held'))) - 1;
  const names = ['*:lim:tickets:*', '*:lim:woken', '*:lim:out:*'];
  for (const key of (await Promise.all(names.map(async (name) => redis.keys(name)))).flat())
    for (const id of await redis.zrange(key, 0, '-1')) await redis.zadd(key, ago, id);
}

describe('R35 limits that change', () => {
  it('leave no attempt waiting twice: what waits behind it gets its turn', async () => {
    const [a, b, c] = await submit(3, { tenant: 'acme' });
    await set([{ by: 'fleet', running: 1 }]);
    const first = await start(a!);
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
    await set([
      { by: 'fleet', running: 1 },
      { by: 'label.tenant', running: 3 },
    ]);
    await life.slots.count(async () => life.agents.liveEverywhere());
    // Handed over again without the names of the new limits, so no gate sees it.
    expect(await claim(b!)).toMatchObject({ why: 'LIMITED' });
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
    // Nobody has counted yet what runs.
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
    // Before the count it waits; the count finds that it runs.
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
    // Handed over again, since its hand-over may have been lost; the next of that pool are not.
    expect((await swept()).sort()).toEqual(idsOf(gone.slice(2, 4)).sort());
    const busy = await submit(2);
    expect(await life.slots.gate(busy)).toEqual([true, true]);
    for (const job of busy) await end(await start(job));
    // It takes jobs again.
    const first = await start(gone[2]!);
    expect(await swept()).toEqual(idsOf(gone.slice(4, 5)));
    expect(await end(first)).toEqual(idsOf(gone.slice(5, 6)));
  });
});
