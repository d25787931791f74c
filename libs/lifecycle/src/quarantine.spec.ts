import { agentIdOf, type BelayError } from '#libs/contracts';
import { Valkey } from '#libs/valkey';
import type { Fence } from './agent-store.types';
import { findCorrupt } from './find-corrupt';
import { createExecution, node, spec, stopReport, useLife } from '../../../test/support/life';
import { LifecycleService } from './lifecycle.service';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const REPORT = stopReport();
let valkey: Valkey;
let life: LifecycleService;
let told: BelayError[];

useLife((rig) => ({ valkey, life } = rig));
beforeEach(async () => {
  told = [];
  valkey.quarantine.onFound = (error) => void told.push(error);
  await Promise.all(
    [...valkey.keys.tags(), valkey.keys.control].map(async (tag) =>
      valkey.redis.del(valkey.keys.shard(tag, 'quarantine')),
    ),
  );
});

async function create(...nodes: Parameters<typeof spec>[0]): Promise<string> {
  return createExecution(life, spec(nodes, { onFailure: 'continue' }));
}

async function begin(...nodes: Parameters<typeof spec>[0]): Promise<{ id: string; fences: Fence[] }> {
  const id = await create(...nodes);
  const { entries } = await life.executions.advance(id);
  const fences: Fence[] = [];
  for (const entry of entries) {
    const granted = await life.agents.claim(entry, WORKER, 'token');
    if (!granted.claimed) throw new Error(granted.why);
    await life.agents.started(granted.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
    fences.push(granted.fence);
  }
  return { id, fences };
}

/** The quarantine's entries, once there are `count`: reads do not wait until their notes are stored. */
async function listed(count: number) {
  for (let i = 0; i < 1_000; i++) {
    const items = await valkey.quarantine.list();
    if (items.length === count) return items;
  }
  throw new Error(`never ${count} in the quarantine: ${JSON.stringify(await valkey.quarantine.list())}`);
}

const corruptAt = (key: string, problem: string) =>
  expect.objectContaining({
    code: 'CORRUPT_RECORD',
    message: expect.stringContaining(key) as string,
    details: expect.objectContaining({
      problem: expect.stringContaining(problem) as string,
      cut: expect.stringMatching(/^.{0,200}$/) as string,
    }) as object,
  }) as Error;

describe('R31 records that cannot be read', () => {
  it.each([
    ['not JSON', '{broken', 'it is not JSON'],
    ['JSON of the wrong type', '[1,2]', 'not an object'],
    ['an object without what is needed', '{"id":"x"}', 'nodeId is missing'],
    ['an unknown state', undefined, 'state is not one of'],
    ['a huge value', 'x'.repeat(17 * 1024 * 1024), 'characters long'],
  ])('an agent that is %s is named, shown in a short cut, and hides no other', async (_, value, problem) => {
    const { id, fences } = await begin(node('a'), node('b'));
    const key = valkey.keys.execution(id, 'agents');
    const [a, b] = fences as [Fence, Fence];
    const before = JSON.parse((await valkey.redis.hget(key, a.agentId)) as string) as object;
    await valkey.redis.hset(key, a.agentId, value ?? JSON.stringify({ ...before, state: 'flying' }));
    await expect(life.agents.get(a.agentId)).rejects.toEqual(corruptAt(key, problem));
    expect((await life.agents.list({ executionId: id })).map((agent) => agent.id)).toEqual([b.agentId]);
    // A kill must still name the agent: its id says where it belongs.
    expect(
      (await life.agents.liveOf(id)).map(({ id: one, unreadable }) => [one, unreadable === true]),
    ).toEqual(
      expect.arrayContaining([
        [a.agentId, true],
        [b.agentId, false],
      ]),
    );
    expect(await life.agents.ownedBy(WORKER)).toContainEqual(
      expect.objectContaining({ id: a.agentId, owner: WORKER, executionId: id, nodeId: '#0', attempt: 1 }),
    );
    const [entry] = await listed(1);
    expect(entry).toMatchObject({ key, field: a.agentId, executionId: id });
    expect(entry?.problem).toContain(problem);
    expect(entry?.cut.length).toBeLessThanOrEqual(200);
    expect(JSON.stringify(entry)).not.toContain('"token":"token"');
    // The other agent ends as usual.
    await life.agents.finish(b, { state: 'completed' });
    // The end of this agent is refused, and no part of it is stored.
    const events = await life.executions.events(id, '0-0');
    await expect(life.agents.finish(a, { state: 'completed' })).rejects.toMatchObject({
      code: expect.stringMatching(/^(CORRUPT_RECORD|STALE_EPOCH|INVALID_TRANSITION)$/) as string,
    });
    expect(await life.executions.events(id, '0-0')).toEqual(events);
    await valkey.redis.hset(key, a.agentId, JSON.stringify(before));
    await life.agents.finish(a, { state: 'completed' });
    expect((await life.executions.get(id)).state).toBe('completed');
  });

  it('an execution: another type, no state, an unknown state, a number that is none; lists go on', async () => {
    const healthy = await create(node('a'));
    for (const [spoil, problem] of [
      [async (key: string) => valkey.redis.multi().del(key).set(key, 'text').exec(), 'the wrong type'],
      [async (key: string) => valkey.redis.hdel(key, 'state'), 'state is missing'],
      [async (key: string) => valkey.redis.hset(key, 'state', 'flying'), 'state is not one of'],
      [async (key: string) => valkey.redis.hset(key, 'version', 'many'), 'version is not a number'],
      [async (key: string) => valkey.redis.hset(key, 'labels', '{'), 'it is not JSON'],
    ] as const) {
      const id = await create(node('a'));
      const key = valkey.keys.execution(id);
      await spoil(key);
      await expect(life.executions.get(id)).rejects.toEqual(corruptAt(key, problem));
      const { items } = await life.executions.list({ limit: 1_000 });
      expect(items.map((record) => record.id)).toContain(healthy);
      expect(items.map((record) => record.id)).not.toContain(id);
      await valkey.redis.del(key);
    }
  });

  it('a node or an event that cannot be read is told, and the others are shown', async () => {
    const { id } = await begin(node('a'), node('b'));
    const key = valkey.keys.execution(id, 'nodes');
    await valkey.redis.hset(key, 'a', '{"s":"ready"}');
    expect((await life.executions.nodes(id)).items.map((one) => one.id)).toEqual(['b']);
    await expect(life.executions.node(id, 'a')).rejects.toEqual(corruptAt(key, 'i is missing'));
    const stream = valkey.keys.execution(id, 'events');
    const whole = (await life.executions.events(id, '0-0')).length;
    const broken = ['no event', 'null', '7', '{}', '{"q":1,"t":1,"y":"x.completed"}'];
    for (const text of broken) await valkey.redis.xadd(stream, '*', 'e', text);
    const events = await life.executions.events(id, '0-0');
    expect(events.slice(0, whole).every(({ type }) => type !== 'execution.unreadable')).toBe(true);
    expect(events.slice(whole).map(({ type, seq }) => [type, seq])).toEqual(
      broken.map(() => ['execution.unreadable', 0]),
    );
  });

  it('a worker or a proof that cannot be read does not hide the others', async () => {
    await life.workers.register('wrk_whole', { pools: 'a' }, 60_000);
    await life.workers.register('wrk_spoilt', { pools: 'a' }, 60_000);
    const key = valkey.keys.worker('wrk_spoilt');
    await valkey.redis.hset(key, 'state', 'flying');
    await expect(life.workers.get('wrk_spoilt')).rejects.toEqual(corruptAt(key, 'state is not one of'));
    const ids = (await life.workers.list()).map((worker) => worker.id);
    expect(ids).toContain('wrk_whole');
    expect(ids).not.toContain('wrk_spoilt');
    const proof = valkey.keys.shard(valkey.keys.control, 'proof:wrk_spoilt');
    await valkey.redis.set(proof, '{');
    expect(await life.workers.proof('wrk_spoilt')).toBeUndefined();
    const texts = (await listed(2)).map((entry) => entry.key);
    expect(texts).toEqual(expect.arrayContaining([key, proof]));
  });

  it('R51 a worker whose record is of another type can still be proved dead; a server that is away proves nothing', async () => {
    await valkey.redis.set(valkey.keys.worker('wrk_text'), 'text');
    await life.workers.saveProof('wrk_text', REPORT);
    expect(await life.workers.proof('wrk_text')).toEqual({ report: REPORT });
    const away = new Error('Connection is closed.');
    const hget = jest.spyOn(valkey.redis, 'hget').mockRejectedValueOnce(away);
    await expect(life.workers.proof('wrk_text')).rejects.toBe(away);
    hget.mockRestore();
  });

  it('a key of another type under the live agents or their records costs that execution’s alone', async () => {
    const spoilt = await begin(node('a'));
    const whole = await begin(node('a'));
    const agents = valkey.keys.execution(spoilt.id, 'agents');
    await valkey.redis.multi().del(agents).set(agents, 'text').exec();
    expect((await life.agents.liveOf(spoilt.id)).map(({ unreadable }) => unreadable)).toEqual([true]);
    expect(await life.agents.named([agentIdOf(whole.id, 0, 1)])).toMatchObject([{ state: 'running' }]);
    const live = valkey.keys.execution(spoilt.id, 'live');
    await valkey.redis.multi().del(live).set(live, 'text').exec();
    expect(await life.agents.liveOf(spoilt.id)).toEqual([]);
    expect((await life.agents.liveEverywhere()).map(({ id }) => id)).toContain(agentIdOf(whole.id, 0, 1));
  });

  it('a script that meets one names it: by type, by record, by node, by agent, by next step', async () => {
    const spoil = async (
      part: Parameters<typeof valkey.keys.execution>[1],
      act: (key: string) => Promise<unknown>,
    ): Promise<string> => {
      const id = await create(node('a'), node('b', { dependsOn: ['a'] }));
      const key = valkey.keys.execution(id, part);
      await act(key);
      await expect(life.executions.advance(id)).rejects.toEqual(corruptAt(key, ''));
      return id;
    };
    const stopped = [
      await spoil(undefined, async (key) => valkey.redis.hset(key, 'n:ready', 'many')),
      await spoil('nodes', async (key) => valkey.redis.hset(key, 'a', '{')),
      await spoil('nodes', async (key) => valkey.redis.hset(key, 'a', '7')),
      await spoil('nodes', async (key) => valkey.redis.hdel(key, 'a')),
      await spoil('todo', async (key) => valkey.redis.multi().del(key).set(key, 'x').exec()),
    ];
    // No sweep makes progress with them, so sweeps leave them alone.
    for (const id of stopped)
      expect((await valkey.quarantine.held(valkey.keys.tagOf(id))).execution(id)).toBe(true);
    const { id } = await begin(node('a'));
    const specs = valkey.keys.execution(id, 'specs');
    await valkey.redis.hset(specs, 'a', 'no spec');
    const job = { agentId: agentIdOf(id, 0, 1), executionId: id, nodeId: 'a', attempt: 1 };
    await expect(life.agents.claim(job, WORKER, 'another')).rejects.toEqual(corruptAt(specs, 'not JSON'));
    // A field that may contain secrets is described by its size alone.
    const entry = (await valkey.quarantine.list()).find((one) => one.key === specs);
    expect(entry?.cut).toBe('(7 characters, not shown)');
  });

  it('a dependant that cannot be read leaves no end half done, and is made ready once it is mended', async () => {
    const { id, fences } = await begin(node('a'), node('b', { dependsOn: ['a'] }));
    const key = valkey.keys.execution(id, 'nodes');
    const whole = (await valkey.redis.hget(key, 'b')) as string;
    await valkey.redis.hset(key, 'b', '{');
    expect(await life.agents.finish(fences[0] as Fence, { state: 'completed' })).toMatchObject({
      node: 'completed',
      more: true,
    });
    await expect(life.executions.advance(id)).rejects.toEqual(corruptAt(key, 'not JSON'));
    await valkey.redis.hset(key, 'b', whole);
    expect(await life.executions.advance(id)).toMatchObject({ entries: [{ nodeId: 'b', attempt: 1 }] });
  });

  it('an error of a script that no record explains is that error', async () => {
    const id = await create(node('a'));
    const refused = life.executions.transition(id, 'paused', { set: { a: { b: 1 } as never } });
    await expect(refused).rejects.not.toMatchObject({ code: 'CORRUPT_RECORD' });
    await expect(refused).rejects.toThrow('user_script');
  });

  it('is told once, stays listed while it is as it was, and goes when it is mended or removed', async () => {
    const { id, fences } = await begin(node('a'), node('b'));
    const key = valkey.keys.execution(id, 'agents');
    const [a, b] = fences as [Fence, Fence];
    const whole = (await valkey.redis.hget(key, a.agentId)) as string;
    await valkey.redis.hset(key, a.agentId, '{', b.agentId, '[');
    for (let i = 0; i < 5; i++) await life.agents.liveOf(id);
    await listed(2);
    // Another process that finds the same record does not report it again.
    const other = await new Valkey(valkey.options).open();
    const otherTold: unknown[] = [];
    other.quarantine.onFound = (error) => void otherTold.push(error);
    await other.quarantine.note(told[0]);
    other.close();
    expect(told).toHaveLength(2);
    expect(new Set(told.map(({ details }) => details['field']))).toEqual(new Set([a.agentId, b.agentId]));
    expect(otherTold).toEqual([]);
    const tag = valkey.keys.tagOf(id);
    expect((await valkey.quarantine.held(tag)).record(key, a.agentId)).toBe(true);
    await valkey.redis.hset(key, a.agentId, whole);
    await valkey.redis.hdel(key, b.agentId);
    expect((await valkey.quarantine.held(tag)).size).toBe(0);
    expect(await valkey.quarantine.count()).toBe(0);
  });

  it('an error about no record stays as it is', async () => {
    const id = await create(node('a'));
    const away = new Error('Connection is closed.');
    const get = jest.spyOn(life.executions, 'get').mockRejectedValueOnce(away);
    await expect(life.executions.list()).rejects.toBe(away);
    get.mockRestore();
    expect(await findCorrupt(valkey, id, [], away)).toBeUndefined();
    // The server goes away during the look, so the script's error is all that is known.
    const type = jest.spyOn(valkey.redis, 'type').mockRejectedValueOnce(away);
    expect(await findCorrupt(valkey, id, [], new Error('ERR user_script:1: x'))).toBeUndefined();
    type.mockRestore();
  });

  it('lists a bounded number', async () => {
    const id = life.executions.newId();
    const tag = valkey.keys.tagOf(id);
    const name = valkey.keys.shard(tag, 'quarantine');
    const filler = Array.from({ length: 1_000 }, (_, i) => [`k${i}\t`, '{"key":"k"}']).flat();
    await valkey.redis.hset(name, ...filler);
    await valkey.redis.hset(valkey.keys.execution(id), 'state', 'flying', 'id', id);
    await expect(life.executions.get(id)).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
    await valkey.redis.ping();
    expect(await valkey.redis.hlen(name)).toBe(1_000);
    await valkey.redis.del(name, valkey.keys.execution(id));
  });
});
