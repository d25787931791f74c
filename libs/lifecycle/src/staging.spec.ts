import type { Valkey } from '#libs/valkey';
import { node, spec, useLife } from '../../../test/support/life';
import { LifecycleService } from './lifecycle.service';
import { stageExecution } from './stage-execution';

let valkey: Valkey;
let life: LifecycleService;

useLife((rig) => ({ valkey, life } = rig));

const WIDE = spec([
  node('root'),
  ...Array.from({ length: 1_200 }, (_, i) => node(`n${i}`, { dependsOn: ['root'] })),
]);

/** A submitter that dies before it sends its `nth` packet: a pipeline or a single command. */
function dyingAfter(packets: number): Valkey {
  let left = packets;
  const send = <T>(what: () => T): T => {
    if (left-- <= 0) throw new Error('died');
    return what();
  };
  const redis = new Proxy(valkey.redis, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (name === 'pipeline') {
        return () => {
          const pipeline = target.pipeline();
          const exec = pipeline.exec.bind(pipeline);
          pipeline.exec = async () => send(exec);
          return pipeline;
        };
      }
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) =>
        send(() => (member as (...all: unknown[]) => unknown).apply(target, args));
    },
  });
  return new Proxy(valkey, {
    get: (target, name): unknown => (name === 'redis' ? redis : Reflect.get(target, name, target)),
  });
}

async function ttls(id: string): Promise<Record<string, number>> {
  const keys = await valkey.redis.keys(`${valkey.keys.execution(id)}*`);
  const times = await Promise.all(keys.map(async (key) => valkey.redis.pttl(key)));
  return Object.fromEntries(keys.map((key, i) => [key.split(':').at(-1), times[i] ?? 0]));
}

it('leaves no key without an expiry, whenever the submitter dies', async () => {
  let died = 0;
  for (let packets = 0; ; packets++) {
    const id = life.executions.newId();
    const error = await stageExecution(dyingAfter(packets), id, WIDE).then(
      () => undefined,
      (reason: Error) => reason.message,
    );
    const times = await ttls(id);
    for (const [name, ms] of Object.entries(times)) expect(`${name} ${ms > 0}`).toBe(`${name} true`);
    if (error === undefined) {
      expect(Object.keys(times).sort()).toEqual(
        ['deps', 'nodes', 'open', 'order', 'outs', 'specs', 'staged', 'todo'].sort(),
      );
      break;
    }
    expect(error).toBe('died');
    expect(times).not.toHaveProperty('staged');
    died++;
  }
  expect(died).toBe(7); // its first packet, three of nodes, dependants, roots, its last
});

it('stages exactly the graph, also over a submit that died half-way, and the commit keeps no mark', async () => {
  const id = life.executions.newId();
  await stageExecution(dyingAfter(4), id, WIDE).catch(() => undefined);
  expect(await life.executions.create(WIDE, { start: true, canonical: 'x', id })).toEqual({
    id,
    created: true,
  });
  const { redis, keys } = valkey;
  expect(await redis.lrange(keys.execution(id, 'order'), 0, -1)).toEqual(WIDE.nodes.map((each) => each.id));
  expect(await redis.lrange(keys.execution(id, 'todo'), 0, -1)).toEqual(['rroot']);
  expect(await redis.scard(keys.execution(id, 'open'))).toBe(WIDE.nodes.length);
  expect(await redis.hget(keys.execution(id, 'deps'), 'n7')).toBe('1');
  expect(Object.entries(await ttls(id)).filter(([, ms]) => ms !== -1)).toEqual([]);
  expect(await redis.exists(keys.execution(id, 'staged'))).toBe(0);
});

it('a commit without all staged keys creates nothing and removes the rest', async () => {
  const id = life.executions.newId();
  const { redis, keys } = valkey;
  const json = valkey.scripts.json.bind(valkey.scripts);
  const lossy = jest.spyOn(valkey.scripts, 'json').mockImplementation(async (name, ...rest) => {
    if (name === 'commitExecution') await redis.del(keys.execution(id, 'staged'));
    return json(name, ...rest);
  });
  await expect(
    life.executions.create(spec([node('a')]), { start: true, canonical: 'x', id }),
  ).rejects.toMatchObject({ code: 'TIMEOUT' });
  lossy.mockRestore();
  expect(await ttls(id)).toEqual({});
});

it('stages dependants of a graph that takes several steps', async () => {
  const roots = Array.from({ length: 100 }, (_, i) => node(`r${i}`));
  const dependsOn = roots.map(({ id }) => id);
  const wide = spec([...roots, ...Array.from({ length: 120 }, (_, i) => node(`n${i}`, { dependsOn }))]);
  const id = life.executions.newId();
  await stageExecution(valkey, id, wide);
  const { redis, keys } = valkey;
  expect(await redis.hget(keys.execution(id, 'deps'), 'n119')).toBe('100');
  expect(await redis.lrange(keys.execution(id, 'todo'), 0, -1)).toEqual(dependsOn.map((name) => `r${name}`));
});
