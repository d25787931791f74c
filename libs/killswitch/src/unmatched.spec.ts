import type { ExecutionSpec, Scope } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { advanceAll, createExecution, node, spec } from '../../../test/support/life';
import { AuditStore } from './audit-store';
import type { KillswitchService } from './killswitch.service';
import { PoolQueues } from './pool-queues';

let valkey: Valkey;
let life: LifecycleService;
let killswitch: KillswitchService;
let queues: KillswitchRig['queues'];
let dag: KillswitchRig['dag'];
let settings: KillswitchRig['settings'];
useKillswitch((rig) => ({ valkey, life, killswitch, queues, dag, settings } = rig));
beforeEach(async () => valkey.redis.flushall());

const submit = async (labels: Record<string, string>, over: Partial<ExecutionSpec> = {}): Promise<string> =>
  createExecution(life, spec([node('a', { labels: { model: 'large' } })], { labels, ...over }));
const register = async (id: string, pools: string[]) =>
  life.workers.register(id, { pools: pools.join(',') }, 60_000);
const scopeOf = (selector: string) => ({ type: 'selector', selector }) as const;

/** The warnings about labels, or a scope, in the answers to a kill, to its latch and to a latch alone. */
async function warnings(named: string | Scope): Promise<(string | undefined)[]> {
  const scope = typeof named === 'string' ? scopeOf(named) : named;
  const plan = await killswitch.dryRun(scope);
  const order = await killswitch.placeOrder({ scope, by: 'me', latch: true });
  const receipt = await killswitch.waitForReceipt(order.id);
  expect(receipt).toMatchObject({ complete: true, latch: { scope } });
  const latch = await killswitch.engage({ scope, by: 'me' });
  return [plan, receipt, latch].map(({ warning }) => warning?.message);
}

describe('a selector that nothing meets', () => {
  it.each([
    ['team=dataa', 'Did you mean team=data?'],
    ['taem=data', 'Did you mean team=data?'],
    ['team=data,model=lareg', 'Did you mean team=data,model=large?'],
    ['team in (dta,mll)', 'Did you mean team in (data,ml)?'],
    ['team=zebra', 'Known values of team: data, ml.'],
    ['zebra=1', 'Known labels: env, model, team.'],
    ['team=ml,env=prod', 'Each of these labels is known, but nothing has all of them.'],
  ])('%s is placed, and the answer says what may be meant: %s', async (selector, hint) => {
    await submit({ team: 'data', env: 'prod' });
    await submit({ team: 'ml' });
    const said = `No agent and no execution has labels that meet ${selector}. ${hint}`;
    expect(await warnings(selector)).toEqual([said, said, said]);
  });

  it('is told as that where no label is known at all', async () => {
    const said = 'No agent and no execution has labels that meet team=data. No label is known.';
    expect(await warnings('team=data')).toEqual([said, said, said]);
  });

  it.each([
    ['a live execution', 'team=data'],
    ['a node that has not started', 'team=data,model=large'],
    ['an execution that lacks a label', '!draft'],
  ])('does not come where something meets %s', async (_what, selector) => {
    await submit({ team: 'data' });
    expect(await warnings(selector)).toEqual([undefined, undefined, undefined]);
  });

  it('does not come for labels of an ended execution: a kill may be given twice', async () => {
    await killswitch.stops.stop(await submit({ team: 'data' }), { by: 'me' });
    expect(await warnings('team=data')).toEqual([undefined, undefined, undefined]);
  });

  it('looks at the newest executions of each shard only', async () => {
    await submit({ team: 'data' });
    await submit({ team: 'data' });
    const commands = async (): Promise<number> =>
      Number(/total_commands_processed:(\d+)/.exec(await valkey.redis.info('stats'))?.[1]);
    const before = await commands();
    await killswitch.dryRun(scopeOf('team=dataa'));
    expect((await commands()) - before).toBeLessThan(60);
  });

  it('keeps no label of executions that retention or its bound has removed', async () => {
    const id = await submit({ team: 'data' });
    await killswitch.stops.stop(id, { by: 'me' });
    await valkey.scripts.run('retireExecution', valkey.keys.execution(id), [valkey.keys.tagOf(id), id]);
    expect(await valkey.redis.keys('*idx:lbl*')).toEqual([]);
    expect(await valkey.redis.keys('*idx:node-labels*')).toEqual([]);
  });
});

describe('a pool that nothing has', () => {
  it('is killed and latched, and the answers say which pool may be meant', async () => {
    await register('wrk_a', ['gpu', 'default']);
    const said =
      'No live worker serves pool gup, and no attempt waits for it. Served are: default, gpu. Did you mean gpu?';
    expect(await warnings({ type: 'pool', pool: 'gup' })).toEqual([said, said, said]);
    const { warning } = await killswitch.dryRun({ type: 'pool', pool: 'gup' });
    expect(warning).toMatchObject({ code: 'NOTHING_MATCHED', suggestion: 'gpu' });
  });

  it('is not one that a worker serves, or that an attempt waits for', async () => {
    await register('wrk_a', ['default']);
    await advanceAll(life, await createExecution(life, spec([node('a', { pool: 'later' })])));
    for (const pool of ['default', 'later'])
      expect(await warnings({ type: 'pool', pool })).toEqual([undefined, undefined, undefined]);
  });

  it('is paused, and the answer says which pool may be meant', async () => {
    await register('wrk_a', ['gpu']);
    const audit = new AuditStore(valkey, settings);
    const pools = new PoolQueues(life, killswitch, queues, dag, audit, async () => undefined);
    const said =
      'No live worker serves pool gup, and no attempt waits for it. Served are: gpu. Did you mean gpu?';
    for (const already of [false, true])
      expect(await pools.pause('gup', { by: 'me' })).toMatchObject({
        queue: { pool: 'gup', pause: { by: 'me' } },
        already,
        warning: { code: 'NOTHING_MATCHED', message: said, suggestion: 'gpu' },
      });
    expect(await pools.pause('gpu', { by: 'me' })).not.toHaveProperty('warning');
  });

  it('is told where no worker lives', async () => {
    const said = 'No live worker serves pool gpu, and no attempt waits for it. Served are: none.';
    expect(await warnings({ type: 'pool', pool: 'gpu' })).toEqual([said, said, said]);
  });
});
