import type { LifecycleService } from '#libs/lifecycle';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/fleet';
import { AgentQueues } from './agent-queues';

let life: LifecycleService;
let queues: AgentQueues;
useLife((rig) => ({ life } = rig));
beforeAll(() => (queues = new AgentQueues(life, { prefix: 'bull' })));
afterAll(async () => queues.close());

const inQueue = async (state: string): Promise<string[]> =>
  life.valkey.redis.zrange(`bull:belay-agents-default:${state}`, 0, '-1');

describe('R42 an attempt that a worker refuses', () => {
  it('is handed over again from the outbox: no wall clock says when', async () => {
    const id = await createExecution(life, spec([node('a', { priority: 7 })]));
    const [entry] = await advanceAll(life, id);
    await queues.dispatch([entry!]);
    let taken = 0;
    const delayed: string[] = [];
    const consumer = queues.consume('default', 1, async () => {
      delayed.push(...(await inQueue('delayed')));
      return ++taken === 3;
    });
    await eventually(async () => taken === 3, 'the third taking');
    await consumer.close();
    expect(delayed).toEqual([]);
  });

  it('by one that closes is there for the next at once', async () => {
    const id = await createExecution(life, spec([node('a')]));
    const [entry] = await advanceAll(life, id);
    await queues.dispatch([entry!]);
    let closing: Promise<void> | undefined;
    const consumer = queues.consume('default', 1, async () => {
      closing ??= consumer.close();
      return false;
    });
    await eventually(async () => closing !== undefined, 'the taking');
    await closing;
    await eventually(async () => (await inQueue('prioritized')).includes(entry!.agentId), 'the job');
    const { keys, redis } = life.valkey;
    expect(await redis.hexists(keys.shard(keys.tagOf(id), 'outbox'), entry!.agentId)).toBe(1);
  });
});
