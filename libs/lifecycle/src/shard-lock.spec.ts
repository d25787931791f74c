import { ShardLock, type Valkey } from '#libs/valkey';
import { useLife } from '../../../test/support/life';

let valkey: Valkey;
useLife((rig) => ({ valkey } = rig));

describe('a turn', () => {
  it('is one process’s in each shard until it is given back', async () => {
    const [tag = '', other = ''] = valkey.keys.tags();
    const first = new ShardLock(valkey, 'job', 60_000);
    const second = new ShardLock(valkey, 'job', 60_000);
    expect(await first.take(tag)).toBe(1);
    expect(await second.take(tag)).toBeUndefined();
    expect(await second.take(other)).toBe(1);
    expect(await first.take(tag)).toBe(1);
    await second.giveBack();
    expect(await first.take(other)).toBe(2);
    await first.giveBack();
    expect(await second.take(tag)).toBe(2);
    expect(await first.take(tag)).toBeUndefined();
    // The first holder has nothing of the other's to give back.
    await first.giveBack();
    expect(await first.take(tag)).toBeUndefined();
  });

  it('runs out: the next holder gets a higher fencing number, and so does its owner when it wakes', async () => {
    const [tag = ''] = valkey.keys.tags();
    const sleeper = new ShardLock(valkey, 'other', 1);
    const next = new ShardLock(valkey, 'other', 1);
    const numbers = [];
    for (const turns of [sleeper, next, next, sleeper]) {
      numbers.push(await turns.take(tag));
      // Waits until the lock has run out by the server's clock.
      const [, until] = await valkey.redis.hmget(valkey.keys.shard(tag, 'turn:other'), 'owner', 'until');
      for (let now = 0; now <= Number(until);) {
        const [seconds, micros] = await valkey.redis.time();
        now = Number(seconds) * 1_000 + Number(micros) / 1_000;
      }
    }
    expect(numbers).toEqual([1, 2, 3, 4]);
  });

  it('twenty that race for one shard have one winner', async () => {
    const [tag = ''] = valkey.keys.tags();
    const racers = Array.from({ length: 20 }, () => new ShardLock(valkey, 'race', 60_000));
    const won = await Promise.all(racers.map(async (turns) => turns.take(tag)));
    expect(won.filter((fence) => fence !== undefined)).toEqual([1]);
  });
});
