import { node, spec, createExecution, useLife, type Rig } from '../../../test/support/life';

let rig: Rig;
useLife((made) => (rig = made));

const watched = async (): Promise<string[]> => {
  const { keys, redis } = rig.valkey;
  const lists = keys.tags().map(async (tag) => redis.zrange(keys.shard(tag, 'watched'), 0, '-1'));
  return (await Promise.all(lists)).flat();
};

describe('R63 the watchers of an execution', () => {
  it('is missed once its time is over, and until that is settled; not while another watches', async () => {
    const { attendance } = rig.life;
    const id = await createExecution(rig.life, spec([node('a')]));
    const other = await createExecution(rig.life, spec([node('a')]));
    await attendance.attend(id, 'one', 60_000);
    await attendance.attend(other, 'lone', 60_000);
    expect(await attendance.abandoned()).toEqual([]);
    await attendance.attend(id, 'one', 0);
    await attendance.attend(id, 'two', 60_000);
    // The watcher reconnects: the missed one is forgotten.
    expect(await attendance.abandoned()).toEqual([]);
    expect((await watched()).sort()).toEqual([`${id} two`, `${other} lone`].sort());
    await attendance.attend(id, 'two', 0);
    expect(await attendance.abandoned()).toEqual([{ executionId: id, watcher: 'two' }]);
    // No other caller gets the execution meanwhile, and it is kept until it is settled.
    expect(await attendance.abandoned()).toEqual([]);
    expect(await watched()).toContain(`${id} two`);
    await attendance.settle({ executionId: id, watcher: 'two' });
    expect(await watched()).toEqual([`${other} lone`]);
  });

  it('is forgotten when its entry is none', async () => {
    const { keys, redis } = rig.valkey;
    await redis.zadd(keys.shard(keys.tags()[0] ?? '', 'watched'), 1, 'garbage');
    expect(await rig.life.attendance.abandoned()).toEqual([]);
    expect(await watched()).not.toContain('garbage');
  });

  it('is missed on a full server too, so that its execution is stopped', async () => {
    const { attendance } = rig.life;
    const { redis } = rig.valkey;
    const id = await createExecution(rig.life, spec([node('a')]));
    await redis.config('SET', 'maxmemory', '1');
    try {
      await attendance.attend(id, 'one', 0);
      expect(await attendance.abandoned()).toEqual([{ executionId: id, watcher: 'one' }]);
    } finally {
      await redis.config('SET', 'maxmemory', '0');
    }
  });
});
