import { createClient } from '#libs/client';
import { ended } from '../support/executions';
import { eventually, processesWith } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';

const { fleet, begin, it } = fleetPerTest();

/** Suspends its node in its first attempt; a later one prints the signal that woke it. */
const parks = (more = '') => ({
  shell: true,
  command: [
    `read -r input; if [ "$BELAY_ATTEMPT" = 1 ]; then echo '{"type":"suspend","name":"approved"${more}}' >&3; ` +
      `else echo "{\\"type\\":\\"result\\",\\"value\\":$input}" >&3; fi`,
  ],
});

const suspended = async (client: typeof fleet.client, id: string): Promise<true> =>
  eventually(async () => (await client.node(id, 'a')).state === 'suspended', 'a suspended node');

it('R23 a suspended node has no process, and outlives worker, orchestrator and server; its signal wakes it with a payload', async () => {
  await begin({ workers: 1, server: { appendonly: true } });
  const { execution } = await fleet.client.createExecution({
    name: 'parks',
    nodes: [
      { id: 'a', maxAttempts: 1, run: parks() },
      { id: 'b', dependsOn: ['a'], run: { command: ['true'] } },
    ],
  });
  const { id } = execution;
  await suspended(fleet.client, id);
  expect(await fleet.client.execution(id)).toMatchObject({ state: 'running', live: 0 });
  expect(processesWith(id)).toEqual([]);
  const [worker] = fleet.workers;
  const [orchestrator] = fleet.orchestrators;
  worker?.process.kill('SIGKILL');
  orchestrator?.process.kill('SIGKILL');
  await Promise.all([worker?.exited, orchestrator?.exited, fleet.server.kill9()]);
  await fleet.server.restart();
  const { url = '' } = await fleet.addOrchestrator();
  await fleet.addWorker();
  const client = createClient({ url, token: fleet.token });
  await expect(client.signal(id, 'a b')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  expect(await client.signal(id, 'approved', { by: 'ann', items: [] })).toEqual({
    executionId: id,
    signal: 'approved',
    woken: ['a'],
    kept: false,
  });
  expect(await ended(client, id)).toMatchObject({ state: 'completed', nodes: { completed: 2 } });
  expect((await client.node(id, 'a')).result).toMatchObject({
    attempt: 2,
    isRecovery: false,
    signal: { name: 'approved', payload: { by: 'ann', items: [] } },
  });
  await expect(client.signal(id, 'approved')).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
});

it('R23 a node whose signal does not come in time fails', async () => {
  await begin({ workers: 1 });
  const nodes = [{ id: 'a', maxAttempts: 1, run: parks(',"maxAgeMs":200') }];
  const { execution } = await fleet.client.createExecution({ name: 'parks', nodes });
  expect(await ended(fleet.client, execution.id)).toMatchObject({
    state: 'failed',
    error: { code: 'SUSPENDED_TOO_LONG' },
  });
});

it('R61 the stream of a suspended execution ends with a frame of its own, and a client goes on when it is woken', async () => {
  await begin({ workers: 1 });
  const { client } = fleet;
  const nodes = [{ id: 'a', maxAttempts: 1, run: parks() }];
  const { execution } = await client.createExecution({ name: 'parks', nodes });
  await suspended(client, execution.id);
  const response = await fetch(`${fleet.orchestrators[0]?.url}/api/executions/${execution.id}/events`, {
    headers: { authorization: `Bearer ${fleet.token}` },
  });
  // The server closes the stream, so the whole text can be read.
  const frames = (await response.text()).trim().split('\n\n');
  expect(frames.at(-1)).toMatch(/event: suspended/);
  expect(frames.at(-1)).toContain('{"state":"running"}');

  let told = 0;
  const types: string[] = [];
  for await (const { type } of client.events(execution.id, { onSuspended: () => told++ })) {
    types.push(type);
    if (type === 'node.suspended') void client.signal(execution.id, 'approved');
  }
  expect(types.at(-1)).toBe('execution.completed');
  expect(types.filter((type) => type === 'node.suspended')).toHaveLength(1);
  expect(told).toBeLessThanOrEqual(1);
});
