import type { Valkey } from '#libs/valkey';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';

let valkey: Valkey;
let life: LifecycleService;
useLife((rig) => ({ valkey, life } = rig));

/** Fills an index up to that length with entries that are older than all that are there. */
async function fill(index: string, length: number, idOf: (i: number) => string): Promise<void> {
  const key = valkey.keys.shard(valkey.keys.tags()[0] ?? '', index);
  const entries = Array.from({ length: length - (await valkey.redis.zcard(key)) }, (_, i) => [i, idOf(i)]);
  for (let i = 0; i < entries.length; i += 1_000)
    await valkey.redis.zadd(key, ...entries.slice(i, i + 1_000).flat());
}

describe('a list that is longer than is read', () => {
  it('of agents says so', async () => {
    const id = await createExecution(life, spec([node('a')]));
    const idOf = (i: number): string => `agt_${id.slice(4)}-${i}-1`;
    await fill('idx:agt:ended', 5_000, idOf);
    expect(await life.agents.search({ states: ['failed'] })).toMatchObject({ truncated: false });
    await fill('idx:agt:ended', 5_001, (i) => idOf(i + 5_000));
    expect(await life.agents.search({ states: ['failed'] })).toMatchObject({ truncated: true });
    expect(await life.agents.search({ states: ['running'] })).toMatchObject({ truncated: false });
  });

  it('of executions says so on its last page', async () => {
    await createExecution(life, spec([node('a')]));
    await createExecution(life, spec([node('a')]));
    const idOf = (i: number): string => `exe_${String(i).padStart(26, '0')}`;
    await fill('idx:exe', 10_000, idOf);
    expect(await life.executions.list()).not.toHaveProperty('truncated');
    await fill('idx:exe', 10_001, (i) => idOf(i + 10_000));
    const first = await life.executions.list({ limit: 1 });
    expect(first).not.toHaveProperty('truncated');
    expect(await life.executions.list({ cursor: first.nextCursor ?? '' })).toMatchObject({ truncated: true });
  }, 60_000);
});
