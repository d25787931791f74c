import { createClient } from '#libs/client';
import type { TokenRequest } from '#libs/contracts';
import { ended } from '../support/executions';
import { startFleet, type Fleet } from '../support/fleet';

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1 });
});
afterAll(async () => fleet.stop());

const url = (): string => fleet.orchestrators[0]?.url ?? '';

async function submit(script: string, labels: Record<string, string> = {}, start = true): Promise<string> {
  const nodes = [{ id: 'a', run: { command: ['/bin/sh', '-c', script] } }];
  return (await fleet.client.createExecution({ name: 'x', labels, nodes }, { start })).execution.id;
}

async function clientOf(request: TokenRequest): Promise<Fleet['client']> {
  const { secret } = await createClient({ url: url(), token: fleet.token }).createToken(request);
  return createClient({ url: url(), token: secret });
}

/** All keys of the server whose names contain the execution's id. */
const keysOf = async (id: string): Promise<string[]> => fleet.life.valkey.redis.keys(`*${id.slice(4)}*`);

it('DELETE removes an ended execution with its agents, logs and events; a second one finds nothing', async () => {
  const id = await submit('echo hello');
  expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
  const [agent] = (await fleet.client.agents({ executionId: id })).items;
  const agentId = agent?.id ?? '';
  expect((await fleet.client.logs(agentId)).lines).toMatchObject([{ line: 'hello' }]);

  expect(await fleet.client.deleteExecution(id)).toEqual({ executionId: id, state: 'completed' });
  expect(await keysOf(id)).toEqual([]);
  for (const gone of [
    fleet.client.execution(id),
    fleet.client.agent(agentId),
    fleet.client.logs(agentId),
    fleet.client.deleteExecution(id),
  ])
    await expect(gone).rejects.toMatchObject({ code: 'NOT_FOUND', details: { status: 404 } });
  const { items } = await fleet.client.audit();
  expect(items[0]).toMatchObject({
    act: 'execution.deleted',
    by: 'admin',
    role: 'admin',
    requestId: expect.stringMatching(/^req_/),
    scope: { type: 'execution', executionId: id },
  });
  expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
});

it('DELETE is refused before the end of an execution, and taken after its stop', async () => {
  const idle = await submit('true', {}, false);
  const running = await submit('sleep 600');
  for (const [id, state] of [
    [idle, 'idle'],
    [running, 'running'],
  ] as const)
    await expect(fleet.client.deleteExecution(id)).rejects.toMatchObject({
      code: 'NOT_ENDED',
      details: { status: 409, id, state },
    });
  expect(await fleet.client.stop(running)).toMatchObject({ status: 'stopped' });
  expect(await fleet.client.deleteExecution(running)).toEqual({ executionId: running, state: 'stopped' });
  // The receipt of the stop outlives the execution.
  expect((await fleet.client.receipts()).items[0]).toMatchObject({ complete: true });
});

it('R65 DELETE is for operators and admins, and a bound token finds nothing of others', async () => {
  const [own, others] = [await submit('true', { tenant: 'a' }), await submit('true', { tenant: 'b' })];
  for (const id of [own, others]) await ended(fleet.client, id);
  const submitter = await clientOf({ name: 'submitter', role: 'submitter' });
  await expect(submitter.deleteExecution(own)).rejects.toMatchObject({ code: 'FORBIDDEN' });
  const bound = await clientOf({ name: 'bound', role: 'operator', selector: 'tenant=a' });
  await expect(bound.deleteExecution(others)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(await fleet.client.execution(others)).toMatchObject({ state: 'completed' });
  expect(await bound.deleteExecution(own)).toMatchObject({ executionId: own });
  await expect(bound.deleteExecution(own)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('of deletions at once, at two orchestrators, one is done', async () => {
  const { url: second = '' } = await fleet.addOrchestrator();
  const id = await submit('true');
  await ended(fleet.client, id);
  const clients = [url(), second].map((one) => createClient({ url: one, token: fleet.token }));
  const answers = await Promise.allSettled(
    Array.from({ length: 10 }, async (_, i) => clients[i % 2]?.deleteExecution(id)),
  );
  expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  const refusals = answers.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  for (const refusal of refusals) expect(refusal).toMatchObject({ code: 'NOT_FOUND' });
  const acts = (await fleet.client.audit()).items.filter(
    ({ act, scope }) =>
      act === 'execution.deleted' && scope?.type === 'execution' && scope.executionId === id,
  );
  expect(acts).toHaveLength(1);
});
