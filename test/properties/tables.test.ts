import {
  allowedFrom,
  EXECUTION_MACHINE,
  isAllowed,
  statesOf,
  WORKER_MACHINE,
  type ExecutionState,
  type NodeSpec,
  type WorkerState,
} from '#libs/contracts';
import { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import fc from 'fast-check';
import { GraphRig } from './graph-rig';
import { expectProperty } from './runs';
import { node, useLife } from '../support/life';

let valkey: Valkey;
let life: LifecycleService;

useLife((rig) => ({ valkey, life } = rig));
beforeEach(async () => valkey.redis.flushall());

const NODE: NodeSpec = node('a');
const codeOf = async (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'ok',
    (error: unknown) => (error as { code: string }).code,
  );
/** The expected record: none, the right one, or another. */
const said = fc.constantFrom('nothing', 'right', 'wrong');

it('R1 R2 R3 any walk over the executions’ table moves where the table says, one event each; a refusal leaves all keys as they were', async () => {
  const step = fc.record({
    to: fc.constantFrom(...statesOf(EXECUTION_MACHINE)),
    from: said,
    epoch: said,
    version: said,
  });
  await expectProperty(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      await valkey.redis.flushall();
      const rig = new GraphRig(valkey, 1);
      await rig.create({ name: 'x', labels: {}, onFailure: 'stop', nodes: [NODE], timeoutMs: 60_000 }, false);
      let state: ExecutionState = 'idle';
      let told = (await rig.expectEvents()).length;
      for (const { to, from, epoch, version } of steps) {
        const record = await life.executions.get(rig.id);
        const other = statesOf(EXECUTION_MACHINE).find((name) => name !== state)!;
        const expected = {
          ...(from === 'nothing' ? {} : { from: from === 'right' ? state : other }),
          ...(epoch === 'nothing' ? {} : { epoch: record.epoch + (epoch === 'right' ? 0 : 1) }),
          ...(version === 'nothing' ? {} : { version: record.version + (version === 'right' ? 0 : -1) }),
        };
        const isStale = [from, epoch, version].includes('wrong');
        const before = await rig.dump();
        const code = await codeOf(life.executions.transition(rig.id, to, expected));
        if (!isStale && isAllowed(EXECUTION_MACHINE, state, to)) {
          expect({ state, to, code }).toEqual({ state, to, code: 'ok' });
          expect((await life.executions.get(rig.id)).version).toBeGreaterThan(record.version);
          told++;
          state = to;
        } else {
          const refusals = ['STALE_EPOCH', 'VERSION_CONFLICT', 'INVALID_TRANSITION'].filter(
            (_, i) => [epoch, version][i] === 'wrong' || i === 2,
          );
          expect(refusals).toContain(code);
          if (!isStale) expect(code).toBe('INVALID_TRANSITION');
          expect(await rig.dump()).toEqual(before);
        }
        expect(await rig.expectEvents()).toHaveLength(told);
        expect((await life.executions.get(rig.id)).state).toBe(state);
      }
    }),
    60,
  );
}, 120_000);

it('R1 R2 R41 any walk over the workers’ table likewise; stopped is its end', async () => {
  const rig = new GraphRig(valkey, 1);
  const step = fc.record({ to: fc.constantFrom(...statesOf(WORKER_MACHINE)), version: said });
  const events = async (): Promise<Record<string, unknown>[]> =>
    (await valkey.redis.xrange(valkey.keys.shard(valkey.keys.control, 'events'), '-', '+')).map(
      ([, values]) => JSON.parse(values[1]!) as Record<string, unknown>,
    );
  await expectProperty(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      await valkey.redis.flushall();
      const id = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
      await life.workers.register(id, { pools: 'default' }, 60_000);
      let state: WorkerState = 'idle';
      for (const { to, version } of steps) {
        const record = await life.workers.get(id);
        const before = await rig.dump();
        const count = (await events()).length;
        const options =
          version === 'nothing' ? {} : { version: record.version + (version === 'right' ? 0 : 7) };
        const code = await codeOf(life.workers.transition(id, to, options));
        if (version !== 'wrong' && isAllowed(WORKER_MACHINE, state, to)) {
          expect({ state, to, code }).toEqual({ state, to, code: 'ok' });
          expect((await events()).slice(count)).toMatchObject([
            { type: `worker.${to}`, from: state, to, workerId: id },
          ]);
          state = to;
        } else {
          expect([state, to, code]).not.toEqual([state, to, 'ok']);
          expect(await rig.dump()).toEqual(before);
        }
        expect((await life.workers.get(id)).state).toBe(state);
        if (state === 'stopped') expect(allowedFrom(WORKER_MACHINE, state)).toEqual([]);
      }
    }),
    60,
  );
}, 120_000);
