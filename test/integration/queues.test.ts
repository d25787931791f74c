import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ended } from '../support/executions';
import { eventually, startFleet, type Fleet } from '../support/fleet';

/** Two workers with four places: more than enough for the jobs here, without a pause. */
let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 2, env: { BELAY_WORKER_CONCURRENCY: '2', BELAY_GRACE_MS: '300' } });
});
afterAll(async () => fleet.stop());

const sh = (script: string) => ({ command: [script], shell: true });
const submit = async (nodes: object[], more: object = {}): Promise<string> =>
  (await fleet.client.createExecution({ name: 'test', nodes, ...more })).execution.id;
const counts = async (pool = 'default') => {
  const { waiting, delayed, active } = await fleet.client.queue(pool);
  return { waiting, delayed, active };
};

it('R34 a paused pool starts nothing, though its jobs are in BullMQ; running agents go on; resume lets the rest run; the counts add up', async () => {
  const ran = join(fleet.dir, 'ran');
  const go = join(fleet.dir, 'go');
  const blocker = (id: string) => ({ id, run: sh(`until [ -e ${go} ]; do sleep 0.05; done`) });
  const first = await submit(['a', 'b', 'c', 'd'].map(blocker));
  await eventually(async () => (await counts()).active === 4, 'an agent in every place');
  const nodes = Array.from({ length: 6 }, (_, i) => ({ id: `n${i}`, run: sh(`echo ${i} >>${ran}`) }));
  const later = { id: 'later', delayMs: 3_600_000, run: sh('true') };
  const id = await submit([...nodes, later], { onFailure: 'continue' });
  const inBullMq = async (): Promise<number> =>
    (await fleet.client.queue('default')).bullmq['prioritized'] ?? 0;
  await eventually(async () => (await inBullMq()) === 6, 'jobs in BullMQ');
  expect(await counts()).toEqual({ waiting: 6, delayed: 1, active: 4 });

  const { queue, already } = await fleet.client.pauseQueue('default', { note: 'bad driver' });
  expect(already).toBe(false);
  const pause = { by: 'admin', note: 'bad driver' };
  expect(queue).toMatchObject({ pool: 'default', workers: 2, waiting: 6, active: 4, pause });
  expect(await fleet.client.pauseQueue('default')).toMatchObject({ already: true, queue: { pause } });
  // Running agents go on to their end, and a worker that starts now finds the pause.
  writeFileSync(go, '');
  expect(await ended(fleet.client, first)).toMatchObject({ state: 'completed' });
  const { id: fresh } = await fleet.addWorker({ BELAY_WORKER_CONCURRENCY: '2' });
  const beats = async (): Promise<number> => (await fleet.life.workers.get(fresh)).lastHeartbeatAt ?? 0;
  const since = await beats();
  await eventually(async () => (await beats()) > since + 2_000, 'two seconds in which six places were free');
  expect(existsSync(ran)).toBe(false);
  expect(await counts()).toEqual({ waiting: 6, delayed: 1, active: 0 });

  expect(await fleet.client.resumeQueue('default')).toMatchObject({ already: false, queue: { latches: [] } });
  expect(await fleet.client.resumeQueue('default')).toMatchObject({ already: true });
  await eventually(
    async () => (await fleet.client.execution(id)).nodes.completed === 6,
    'the end of the six',
  );
  expect(readFileSync(ran, 'utf8').trim().split('\n').sort()).toEqual(['0', '1', '2', '3', '4', '5']);
  expect(await counts()).toEqual({ waiting: 0, delayed: 1, active: 0 });
  const acts = (await fleet.client.audit()).items.map(({ act, kind }) => `${act} ${kind ?? ''}`);
  expect(acts).toEqual(expect.arrayContaining(['latch.engaged pause', 'latch.released pause']));
  expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
  await fleet.client.stop(id);
});

it('R34 a pool may be paused before its first worker starts', async () => {
  await fleet.client.pauseQueue('batch');
  const id = await submit([{ id: 'a', pool: 'batch', run: sh('true') }]);
  await fleet.addWorker({ BELAY_POOLS: 'batch' });
  await eventually(async () => (await fleet.client.queue('batch')).workers === 1, 'the worker of the pool');
  expect(await fleet.client.queue('batch')).toMatchObject({ waiting: 1, active: 0 });
  await fleet.client.resumeQueue('batch');
  expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
});

it('R34 waiting attempts of a pool are removed, by labels or all of them, with a reason, an event and an entry of the audit log', async () => {
  const node = (id: string, team: string) => ({ id, pool: 'empty', labels: { team }, run: sh('true') });
  const [kept, gone] = [
    await submit([node('a', 'web'), node('b', 'web')]),
    await submit([node('a', 'data'), node('b', 'data')]),
  ];
  await eventually(async () => (await counts('empty')).waiting === 4, 'what waits');
  const note = 'they are no longer needed';
  const request = { selector: 'team=data', note };
  expect(await fleet.client.removeFromQueue('empty', request, { dryRun: true })).toEqual({
    removed: 2,
    more: false,
  });
  expect((await counts('empty')).waiting).toBe(4);
  expect(await fleet.client.removeFromQueue('empty', request)).toEqual({ removed: 2, more: false });
  expect(await ended(fleet.client, gone)).toMatchObject({
    state: 'stopped',
    reason: 'user_abort',
    actor: 'admin',
    note,
    error: { code: 'REMOVED' },
  });
  const events = [];
  for await (const event of fleet.client.events(gone)) events.push(event);
  expect(events.filter(({ type }) => type === 'node.cancelled')).toEqual([
    expect.objectContaining({
      reason: 'user_abort',
      error: expect.objectContaining({ code: 'REMOVED' }) as object,
    }),
    expect.objectContaining({
      reason: 'user_abort',
      error: expect.objectContaining({ code: 'REMOVED' }) as object,
    }),
  ]);
  expect(await counts('empty')).toEqual({ waiting: 2, delayed: 0, active: 0 });
  const { bullmq } = await fleet.client.queue('empty');
  expect(bullmq['prioritized']).toBe(2);
  expect(await fleet.client.removeFromQueue('empty', { note })).toMatchObject({ removed: 2 });
  expect(await ended(fleet.client, kept)).toMatchObject({ state: 'stopped' });
  const { items } = await fleet.client.audit({ limit: 4 });
  expect(items.map(({ act, removed }) => [act, removed])).toEqual([
    ['queue.removed', 2],
    ['queue.removing', undefined],
    ['queue.removed', 2],
    ['queue.removing', undefined],
  ]);
  expect(items[2]).toMatchObject({ by: 'admin', note, pool: 'empty', selector: 'team=data' });
});

it('R34 bad requests are answered with a correct form', async () => {
  await expect(fleet.client.pauseQueue('no such pool')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  await expect(fleet.client.removeFromQueue('default', { note: '' })).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
  });
  await expect(fleet.client.removeFromQueue('default', { note: 'x', selector: 'a==' })).rejects.toMatchObject(
    { code: 'INVALID_REQUEST' },
  );
});
