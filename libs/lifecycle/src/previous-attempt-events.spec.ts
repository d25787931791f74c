import type { Valkey } from '#libs/valkey';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';
import { previousAttemptEvents } from './previous-attempt-events';

let valkey: Valkey;
let life: LifecycleService;
useLife((rig) => ({ valkey, life } = rig));

/** The first attempt at each node says its events. */
async function saying(events: Record<string, readonly { name: string; data?: unknown }[]>): Promise<string> {
  const id = await createExecution(life, spec(Object.keys(events).map((name) => node(name))));
  for (const job of await advanceAll(life, id)) {
    const claim = await life.agents.claim(job, 'wrk_1', 'token');
    if (!claim.claimed) throw new Error(claim.why);
    const said = events[job.nodeId]!.map((event, i) => ({ n: i + 1, ...event }));
    await life.agents.report(claim.fence, { events: said });
  }
  return id;
}

describe('R28 events that attempts at a node said before', () => {
  it('is in the order it was said, of this node alone, with and without data', async () => {
    const id = await saying({
      a: [{ name: 'one', data: { list: [] } }, { name: 'two' }],
      b: [{ name: '"a" "agent.event"', data: 'a' }],
    });
    expect(await previousAttemptEvents(valkey, id, 'a')).toEqual([
      { attempt: 1, at: expect.any(Number) as number, name: 'one', data: { list: [] } },
      { attempt: 1, at: expect.any(Number) as number, name: 'two' },
    ]);
    expect(await previousAttemptEvents(valkey, id, 'nobody')).toEqual([]);
  });

  it('is bounded: the newest 100, and no more than 256 Ki characters', async () => {
    const many = Array.from({ length: 120 }, (_, i) => ({ name: `e${i}` }));
    const large = Array.from({ length: 30 }, (_, i) => ({ name: `e${i}`, data: 'x'.repeat(16_000) }));
    const id = await saying({ many, large });
    const names = (await previousAttemptEvents(valkey, id, 'many')).map(({ name }) => name);
    expect([names.length, names[0], names.at(-1)]).toEqual([100, 'e20', 'e119']);
    const kept = await previousAttemptEvents(valkey, id, 'large');
    expect(kept.length).toBeLessThan(17);
    expect(kept.at(-1)?.name).toBe('e29');
  });

  it('R31 leaves out events that cannot be read', async () => {
    const id = await saying({ a: [{ name: 'one' }] });
    await valkey.redis.xadd(valkey.keys.execution(id, 'events'), '*', 'e', '{"y":"a.event"');
    expect(await previousAttemptEvents(valkey, id, 'a')).toMatchObject([{ name: 'one' }]);
  });
});
