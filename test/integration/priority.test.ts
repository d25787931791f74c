import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ended } from '../support/executions';
import { eventually, startFleet, type Fleet } from '../support/fleet';

/** One slot: waiting nodes are taken in one order. */
let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1, env: { BELAY_WORKER_CONCURRENCY: '1', BELAY_GRACE_MS: '300' } });
});
afterAll(async () => fleet.stop());

const sh = (script: string) => ({ command: [script], shell: true });

it('R32 of waiting nodes the highest priority goes first, over executions too; the default is 5; equals in their order', async () => {
  const ran = join(fleet.dir, 'ran');
  const go = join(fleet.dir, 'go');
  const submit = async (nodes: object[]): Promise<string> =>
    (await fleet.client.createExecution({ name: 'test', nodes })).execution.id;
  const blocker = await submit([{ id: 'a', run: sh(`until [ -e ${go} ]; do sleep 0.05; done`) }]);
  await eventually(async () => (await fleet.client.execution(blocker)).nodes.running === 1, 'the blocker');

  const node = (id: string, priority?: number) => ({
    id,
    ...(priority === undefined ? {} : { priority }),
    run: sh(`echo ${id} >>${ran}`),
  });
  const first = await submit([node('one', 1), node('five'), node('ten', 10), node('three', 3)]);
  await eventually(async () => (await fleet.client.execution(first)).nodes.ready === 4, 'the first four');
  const second = await submit([node('nine', 9), node('six', 6), node('five-later', 5)]);
  await eventually(async () => (await fleet.client.execution(second)).nodes.ready === 3, 'the others');
  // All of them are in their queue, and none was taken.
  const { redis } = fleet.life.valkey;
  const waiting = async (): Promise<number> => redis.zcard('bull:belay-agents-default:prioritized');
  await eventually(async () => (await waiting()) === 7, 'all of them in the queue');
  expect(existsSync(ran)).toBe(false);
  writeFileSync(go, '');
  for (const id of [first, second])
    expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
  const order = readFileSync(ran, 'utf8').trim().split('\n');
  expect(order).toEqual(['ten', 'nine', 'six', 'five', 'five-later', 'three', 'one']);
});

it.each([0, 11, 1.5])('R32 a priority of %d is refused', async (priority) => {
  const spec = { name: 'test', nodes: [{ id: 'a', priority, run: { command: ['true'] } }] };
  await expect(fleet.client.createExecution(spec)).rejects.toMatchObject({
    code: 'INVALID_SPEC',
    problems: [expect.objectContaining({ path: expect.stringContaining('priority') as string })],
  });
});
