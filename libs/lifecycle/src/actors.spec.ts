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

  // A worker hears an order before its giver has stopped the execution, and ends the last agent first.
  it.each([
    [
      'stops the whole execution',
      { ...BEN, orderId: 'ord_1', stop: { orderId: 'ord_1', reason: 'user_abort', ...BEN } },
    ],
    ['was for that agent', { ...BEN, orderId: 'ord_1' }],
  ] as const)(
    'names the author with role and request where a worker’s report comes first, of an order that %s',
    async (_, said) => {
      const id = await create(true);
      const { fence } = await startNext(life, id);
      await life.agents.finish(fence, { state: 'killed', reason: 'user_abort', ...said });
      expect(await actorOf(id)).toEqual(BEN);
    },
  );

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
