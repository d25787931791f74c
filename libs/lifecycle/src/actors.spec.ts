import type { ActedBy } from '#libs/contracts';
import { node, spec, startNext, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';

let life: LifecycleService;
useLife((rig) => ({ life } = rig));

const ANN: ActedBy = { actor: 'ann', actorRole: 'submitter', requestId: 'req_1' };
const BEN: ActedBy = { actor: 'ben', actorRole: 'stopper', requestId: 'req_2' };

const create = async (start: boolean): Promise<string> =>
  (await life.executions.create(spec([node('a')]), { start, canonical: `${Math.random()}`, ...ANN })).id;

async function actorOf(id: string): Promise<ActedBy> {
  const { actor, actorRole, requestId } = await life.executions.get(id);
  return { actor, actorRole, requestId } as ActedBy;
}

describe('R81 the record of an execution', () => {
  it.each([
    ['a running one', true],
    ['an idle one', false],
  ])('of %s names the creator, then the author of the stop, each with role and request', async (_, start) => {
    const id = await create(start);
    expect(await actorOf(id)).toEqual(ANN);
    await life.executions.stop(id, { reason: 'user_abort', ...BEN });
    expect(await actorOf(id)).toEqual(BEN);
  });

  it('has no role and no request of somebody else: Belay’s own stop removes them', async () => {
    const running = await create(true);
    await startNext(life, running);
    await life.executions.stop(running, { reason: 'timeout' });
    expect(await actorOf(running)).toEqual({ actor: 'belay', actorRole: undefined, requestId: undefined });
    const idle = await create(false);
    await life.executions.stop(idle, { reason: 'timeout', actor: 'belay' });
    expect(await actorOf(idle)).toEqual({ actor: 'belay', actorRole: undefined, requestId: undefined });
  });
});
