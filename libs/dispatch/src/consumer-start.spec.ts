import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { Link } from '../../../test/faults/link';
import { eventually } from '../../../test/support/fleet';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import { AgentQueues } from './agent-queues';

let url: string;
let life: LifecycleService;
useLife((rig) => ({ url, life } = rig));

/** A worker's connection to the server, which the test can cut. */
async function linked(): Promise<{ link: Link; valkey: Valkey; queues: AgentQueues }> {
  const { hostname, port, pathname } = new URL(url);
  const upstream = port === '' ? { path: pathname } : { host: hostname, port: Number(port) };
  const link = await Link.open(upstream);
  const valkey = await new Valkey({ url: link.url, keyPrefix: 'belay', shards: 2 }).open();
  const queues = new AgentQueues(new LifecycleService(valkey, { retentionMs: 60_000 }), { prefix: 'bull' });
  return { link, valkey, queues };
}

describe('R25 R68 a consumer', () => {
  it('whose first connections are refused takes jobs once the server is reached', async () => {
    const { link, valkey, queues } = await linked();
    const outside = new AgentQueues(life, { prefix: 'bull' });
    link.refuse();
    const taken: string[] = [];
    const consumer = queues.consume('default', 1, async ({ agentId }) => {
      taken.push(agentId);
      return 'done';
    });
    try {
      // Each consumer has two connections of its own.
      await eventually(async () => link.refused >= 8, 'the refusals');
      link.heal();
      // The first job exists when the consumer looks at the queue; the consumer waits for the second.
      for (const count of [1, 2]) {
        const id = await createExecution(life, spec([node('a')]));
        await outside.dispatch(await advanceAll(life, id));
        await eventually(async () => taken.length === count, `job ${count}`, 15_000);
      }
      expect(new Set(taken).size).toBe(2);
    } finally {
      await consumer.close();
      await queues.close();
      await outside.close();
      valkey.close();
      link.close();
    }
  });
});
