import { createExecution, node, spec, startNext, useLife } from '../../../test/support/life';
import { Valkey } from '#libs/valkey';
import { LifecycleService, type Fence } from './index';

let life: LifecycleService;
let url: string;
useLife((rig) => ({ life, url } = rig));

/** An attempt that runs, and the attempt after its loss. */
async function twoAttempts(): Promise<{ first: Fence; next: () => Promise<Fence> }> {
  const id = await createExecution(life, spec([node('a', { maxAttempts: 3 })]));
  const { fence: first } = await startNext(life, id);
  const next = async (): Promise<Fence> => {
    const lost = { state: 'failed', reason: 'worker_lost', retryInMs: 0 } as const;
    const { entries } = await life.agents.finish(first, lost);
    const [job] = entries;
    if (job === undefined) throw new Error('there is no other attempt');
    const claim = await life.agents.claim(job, 'wrk_01HYYYYYYYYYYYYYYYYYYYYYYY', 'token');
    if (!claim.claimed) throw new Error(claim.why);
    return claim.fence;
  };
  return { first, next };
}

describe('R28 the steps of a handler', () => {
  it('are begun, and done once for all attempts of their node', async () => {
    const { first, next } = await twoAttempts();
    const { agents } = life;
    expect(await agents.step(first, 'pay', { act: 'begin', isIdempotent: false })).toEqual({
      state: 'begun',
    });
    // The answer was lost and the attempt asks again: the step has begun once.
    expect(await agents.step(first, 'pay', { act: 'begin', isIdempotent: false })).toEqual({
      state: 'begun',
    });
    const done = { state: 'done', result: { paid: [1] } };
    expect(await agents.step(first, 'pay', { act: 'done', result: { paid: [1] } })).toEqual(done);
    expect(await agents.step(first, 'pay', { act: 'done', result: 'another' })).toEqual(done);
    expect(await agents.step(first, 'tell', { act: 'done' })).toEqual({ state: 'done' });
    const second = await next();
    expect(await agents.step(second, 'pay', { act: 'begin', isIdempotent: false })).toEqual(done);
    expect(await agents.step(second, 'tell', { act: 'begin', isIdempotent: false })).toEqual({
      state: 'done',
    });
  });

  it('that an attempt was executing as it ended run again only where they may', async () => {
    const { first, next } = await twoAttempts();
    const { agents } = life;
    for (const name of ['pay', 'read']) await agents.step(first, name, { act: 'begin', isIdempotent: false });
    const second = await next();
    expect(await agents.step(second, 'pay', { act: 'begin', isIdempotent: false })).toEqual({
      state: 'undecided',
      by: first.agentId,
    });
    expect(await agents.step(second, 'read', { act: 'begin', isIdempotent: true })).toEqual({
      state: 'begun',
    });
    expect(await agents.step(second, 'pay', { act: 'done', result: 1 })).toEqual({
      state: 'done',
      result: 1,
    });
  });

  it('are refused to an attempt that is not the one any more', async () => {
    const { first, next } = await twoAttempts();
    const { agents } = life;
    const begin = { act: 'begin', isIdempotent: true } as const;
    await expect(agents.step({ ...first, epoch: 99 }, 'pay', begin)).rejects.toMatchObject({
      code: 'STALE_EPOCH',
    });
    await expect(agents.step({ ...first, agentId: `${first.agentId}9` }, 'pay', begin)).rejects.toMatchObject(
      { code: 'NOT_FOUND' },
    );
    await next();
    await expect(agents.step(first, 'pay', begin)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
  });

  it('are not stored past the bound of a full server; a step that is done is still answered', async () => {
    const { first } = await twoAttempts();
    const valkey = await new Valkey({ url, keyPrefix: 'belay', shards: 2, patienceMs: 50 }).open();
    const { agents } = new LifecycleService(valkey, { retentionMs: 60_000 });
    const begin = { act: 'begin', isIdempotent: true } as const;
    const done = { act: 'done', result: 'x'.repeat(250_000) } as const;
    try {
      await agents.step(first, 'early', { act: 'done', result: 7 });
      await valkey.redis.config('SET', 'maxmemory', '1');
      for (const act of [begin, done])
        await expect(agents.step(first, 'late', act)).rejects.toMatchObject({
          code: 'OUTCOME_UNKNOWN',
          cause: { message: expect.stringMatching(/^OOM/) as string },
        });
      expect(await agents.step(first, 'early', begin)).toEqual({ state: 'done', result: 7 });
      await valkey.redis.config('SET', 'maxmemory', '0');
      // Neither refused call has left anything.
      expect(await agents.step(first, 'late', begin)).toEqual({ state: 'begun' });
      expect(await agents.step(first, 'late', done)).toMatchObject({ state: 'done' });
    } finally {
      await valkey.redis.config('SET', 'maxmemory', '0');
      valkey.close();
    }
  });
});
