import type { BelayClient } from '#libs/client';
import { EXECUTION_MACHINE, isEnded, type AgentRecord, type ExecutionRecord } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { waitsFor } from '../faults/gather';
import { eventually } from './wait';

/** An execution, its nodes and agents, and the workers, in one text: for the error of a wait that timed out. */
async function stateOf(client: BelayClient, id: string, life?: LifecycleService): Promise<string> {
  const waiting = life === undefined ? undefined : await waitsFor(life, id, 'bull');
  const [execution, nodes, agents, workers] = await Promise.all([
    client.execution(id),
    client.nodes(id, { limit: 20 }),
    client.agents({ executionId: id, limit: 20 }),
    client.workers(),
  ]);
  return JSON.stringify(
    { waiting, execution, nodes: nodes.items, agents: agents.items, workers: workers.items },
    null,
    1,
  );
}

/** The agents of an execution once this many of them run. Fails by name, with the state of the execution. */
export async function running(
  client: BelayClient,
  id: string,
  count: number,
  timeoutMs = 30_000,
  life?: LifecycleService,
): Promise<AgentRecord[]> {
  return eventually(
    async () => {
      const { items } = await client.agents({ executionId: id, state: ['running'] });
      return items.length >= count ? [...items] : undefined;
    },
    `${count} agents of ${id} running`,
    timeoutMs,
    async () => stateOf(client, id, life),
  );
}

/**
 * The agents of an execution once this many of them have written a line `ready`. Fails by name, with the state of the
 * execution.
 */
export async function ready(
  client: BelayClient,
  id: string,
  count: number,
  timeoutMs = 60_000,
): Promise<AgentRecord[]> {
  return eventually(
    async () => {
      const { items } = await client.agents({ executionId: id, state: ['running'] });
      const logs = await Promise.all(items.map(async (agent) => client.logs(agent.id)));
      const said = logs.filter(({ lines }) => lines.some(({ line }) => line === 'ready'));
      return said.length >= count ? [...items] : undefined;
    },
    `${count} agents of ${id} ready`,
    timeoutMs,
    async () => stateOf(client, id),
  );
}

/** The record of an execution once it has ended. Fails by name, with the state of the execution. */
export async function ended(client: BelayClient, id: string, timeoutMs = 60_000): Promise<ExecutionRecord> {
  return eventually(
    async () => {
      const record = await client.execution(id);
      return isEnded(EXECUTION_MACHINE, record.state) ? record : undefined;
    },
    `the end of ${id}`,
    timeoutMs,
    async () => stateOf(client, id),
  );
}
