import { AuditStore } from '#libs/killswitch';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext } from '../../../test/support/life';
import { Deletions } from './deletions';

const SAID = { by: 'ops', role: 'operator', requestId: 'req_1' } as const;

let valkey: Valkey;
let life: LifecycleService;
let settings: KillswitchRig['settings'];
let audit: AuditStore;
useKillswitch((rig) => ({ valkey, life, settings } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  audit = new AuditStore(valkey, settings);
});

const fail = (error: unknown): never => {
  throw error;
};

async function ended(): Promise<string> {
  const id = await createExecution(life, spec([node('a')]));
  const { fence } = await startNext(life, id);
  await life.agents.finish(fence, { state: 'completed', result: 1 });
  return id;
}

it('R81 a deletion is in the audit log, with its author', async () => {
  const id = await ended();
  expect(await new Deletions(life, audit, { onError: fail }).delete(id, SAID)).toEqual({
    executionId: id,
    state: 'completed',
  });
  const { items } = await audit.list();
  expect(items).toMatchObject([
    { act: 'execution.deleted', scope: { type: 'execution', executionId: id }, ...SAID },
  ]);
  expect(await audit.verify()).toMatchObject({ intact: true, entries: 1 });
  expect(await valkey.redis.keys(`*${id.slice(4)}*`)).toEqual([]);
});

it('a deletion whose process died is finished by another, with one entry in the audit log', async () => {
  const id = await ended();
  const { id: removalId } = await life.removals.begin(id, SAID);
  const errors: unknown[] = [];
  const away = new Error('Connection is closed.');
  const finish = jest.spyOn(life.removals, 'finish').mockRejectedValueOnce(away);
  await new Deletions(life, audit, { onError: (error) => errors.push(error), leftAfterMs: 0 }).sweep();
  finish.mockRestore();
  expect(errors).toEqual([away]);
  expect(await life.removals.left(0)).toMatchObject([{ id: removalId }]);
  // A process that may still be at work is left alone.
  await new Deletions(life, audit, { onError: fail }).sweep();
  expect(await life.removals.left(0)).toHaveLength(1);
  await new Deletions(life, audit, { onError: fail, leftAfterMs: 0 }).sweep();
  expect((await audit.list()).items).toMatchObject([{ act: 'execution.deleted', n: 1, ...SAID }]);
  expect(await life.removals.left(0)).toEqual([]);
  expect(await valkey.redis.keys(`*${id.slice(4)}*`)).toEqual([]);
});

it('what retention left is finished without an entry', async () => {
  const id = await ended();
  const { keys, scripts, redis } = valkey;
  await scripts.json('retireExecution', keys.execution(id), [keys.tagOf(id), id, 'removal']);
  await new Deletions(life, audit, { onError: fail, leftAfterMs: 0 }).sweep();
  expect((await audit.list()).items).toEqual([]);
  expect(await redis.keys(`*${id.slice(4)}*`)).toEqual([]);
});

it('a look follows another after a while only', async () => {
  const left = jest.spyOn(life.removals, 'left');
  const deletions = new Deletions(life, audit, { onError: fail });
  await deletions.sweep();
  await deletions.sweep();
  expect(left).toHaveBeenCalledTimes(1);
  left.mockRestore();
});
