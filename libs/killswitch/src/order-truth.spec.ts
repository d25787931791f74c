import {
  EXECUTION_MACHINE,
  isEnded,
  OutcomeUnknownError,
  type Order,
  type Receipt,
  type Scope,
} from '#libs/contracts';
import { AttemptEnds, Janitor, type DagExecutor } from '#libs/executions';
import { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { ulid } from 'ulid';
import { killOf, useKillswitch } from '../../../test/support/killswitch';
import {
  createExecution,
  node,
  spec,
  startAll,
  startNext,
  stopReport,
  type StartedAgent,
} from '../../../test/support/life';
import { eventually, until } from '../../../test/support/wait';
import type { KillswitchService } from './killswitch.service';
import type { OrderStore } from './order-store';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const HOUR = 3_600_000;
const REPORT = stopReport();

let valkey: Valkey;
let life: LifecycleService;
let orders: OrderStore;
let killswitch: KillswitchService;
let janitor: Janitor;
let ends: AttemptEnds;
let dag: DagExecutor;
// Before the rig's own hook, which closes the connections.
afterAll(() => killswitch.stopListening());
useKillswitch((rig) => {
  ({ valkey, life, orders, killswitch } = rig);
  const { queues } = rig;
  ({ dag } = rig);
  ends = new AttemptEnds(life, dag);
  janitor = new Janitor(life, queues, dag, ends, { intervalMs: 1, retentionMs: 60_000 });
});
beforeAll(() => killswitch.start());
beforeEach(async () => valkey.redis.flushall());

const running = async (): Promise<StartedAgent> =>
  startNext(life, await createExecution(life, spec([node('a')], { labels: { team: 'data' } })));

/** Places a kill. Resolves with its receipt once the orchestrator has done its part. */
async function kill(scope: Scope): Promise<Receipt> {
  const order = await killswitch.placeOrder({ scope, by: 'me' });
  return orders.receipt(order.id);
}

describe('R17 R51 an attempt lost with its worker and never seen dead', () => {
  /** An attempt that was lost, and whose execution's records have expired since. */
  async function forgotten(): Promise<StartedAgent> {
    const lost = await running();
    const brief = new LifecycleService(valkey, { retentionMs: 30 });
    await brief.agents.finish(lost.fence, { state: 'failed', reason: 'worker_lost', lost: true });
    await until(async () => (await valkey.redis.exists(valkey.keys.execution(lost.id))) === 0, 'expiry');
    for (const tag of valkey.keys.tags())
      await valkey.scripts.run('pruneShard', valkey.keys.shard(tag, 'expiry'), [tag, 100, 1]);
    return lost;
  }

  it.each<[string, (lost: StartedAgent) => Scope]>([
    ['everything', () => ({ type: 'all' })],
    ['its pool', () => ({ type: 'pool', pool: 'default' })],
    ['its labels', () => ({ type: 'selector', selector: 'team=data' })],
    ['its worker', () => ({ type: 'worker', workerId: WORKER })],
    ['its execution', ({ id }) => ({ type: 'execution', executionId: id })],
    ['the attempt', ({ agentId }) => ({ type: 'agent', agentId })],
  ])('is unconfirmed in a kill of %s after its records have expired', async (_what, scopeOf) => {
    await life.workers.register(WORKER, { pools: 'default' }, 60_000);
    const lost = await forgotten();
    const receipt = await kill(scopeOf(lost));
    expect(receipt).toMatchObject({
      complete: false,
      targets: [{ agentId: lost.agentId, workerId: WORKER, outcome: 'unconfirmed' }],
    });
  });

  it('is settled by a proof that comes after its records have expired, in the receipts before it and for good', async () => {
    const { agentId } = await forgotten();
    const before = await kill({ type: 'all' });
    expect(before.totals).toMatchObject({ unconfirmed: 1 });
    expect(await life.agents.prove(agentId, WORKER, REPORT)).toBe(true);
    expect(await life.agents.prove(agentId, WORKER, REPORT)).toBe(false);
    await killswitch.sweep();
    expect(await orders.receipt(before.orderId)).toMatchObject({
      complete: true,
      targets: [{ agentId, outcome: 'killed', report: { proved: true } }],
    });
    expect(await kill({ type: 'all' })).toMatchObject({ complete: true, targets: [] });
  });

  it('is asked of no more once a person closed an order that names it, and only that one', async () => {
    const [closed, other] = [await forgotten(), await forgotten()];
    const { orderId } = await kill({ type: 'agent', agentId: closed.agentId });
    await killswitch.close(orderId, 'me', 'the host was destroyed');
    await killswitch.close(orderId, 'me', 'the host was destroyed');
    const { targets } = await kill({ type: 'all' });
    expect(targets.map(({ agentId }) => agentId)).toEqual([other.agentId]);
  });

  it('may be retried without force once a person closed an order that names it', async () => {
    const lost = await running();
    await life.agents.finish(lost.fence, { state: 'failed', reason: 'worker_lost', lost: true });
    const retry = { retryId: 'r', actor: 'me', force: false };
    await expect(life.executions.retry(lost.id, retry)).rejects.toMatchObject({ code: 'NOT_PROVED' });
    const { orderId } = await kill({ type: 'all' });
    await killswitch.close(orderId, 'me', 'the host was destroyed');
    expect(await life.executions.retry(lost.id, retry)).toMatchObject({ state: 'running' });
  });
});

describe('R18 R20 an execution that stops while agents of it live', () => {
  it.each([
    ['ended on one machine without the server', undefined],
    ['named with an order that a failover lost', `ord_${ulid()}`],
    ['named with an id of another machine', `local_${ulid()}`],
  ])('%s: the janitor has an order placed for the others', async (_what, orderId) => {
    const { id } = await running();
    await life.executions.stop(id, { reason: 'killswitch', ...(orderId === undefined ? {} : { orderId }) });
    await janitor.sweep();
    await until(async () => (await orders.open()).length === 1, 'an order');
    const [order] = await orders.open();
    expect(order?.scope).toEqual({ type: 'execution', executionId: id });
    // The target is recorded once, and that is enough.
    await janitor.sweep();
    await until(async () => (await life.executions.get(id)).orderId === order?.id, 'the order in the record');
    expect(await orders.open()).toHaveLength(1);
  });

  // The worker hears the kill before its orchestrator has stopped the execution, and the first node that it ends fails the
  // execution.
  it.each<[string, Scope]>([
    ['by labels that one node is out of', { type: 'selector', selector: 'team=data,env!=prod' }],
    ['of everything', { type: 'all' }],
  ])(
    'R50 is stopped by the wide kill %s that ended its first agent, and by no order of its own',
    async (_what, scope) => {
      const nodes = [{ ...node('a'), labels: { env: 'prod' } }, node('b')];
      const id = await createExecution(life, spec(nodes, { labels: { team: 'data' } }));
      const [a, b] = await startAll(life, id);
      if (a === undefined || b === undefined) throw new Error('two nodes did not start');
      const { order } = await orders.place(killOf(scope));
      await ends.endOf(await life.agents.get(b.agentId), () => ({
        outcome: { state: 'killed', report: REPORT, orderId: order.id },
        mayRetry: false,
      }));
      await until(
        async () => (await life.executions.get(id)).orderId !== undefined,
        'an order in the record',
      );
      expect(await life.executions.get(id)).toMatchObject({ state: 'stopping', orderId: order.id });
      expect(await orders.open()).toHaveLength(1);
      await until(async () => (await orders.progress(order.id)).isResolved, 'its targets');
      const named = (await orders.receipt(order.id)).targets.map(({ agentId }) => agentId);
      expect(named.sort()).toEqual([a.agentId, b.agentId]);
    },
  );

  it('R50 has an order of its own where the wide kill came before it and spares it', async () => {
    const { order } = await orders.place({
      ...killOf({ type: 'all' }),
      reach: await life.agents.beginnings(),
    });
    const { id, agentId } = await running();
    dag.requestStop({ executionId: id, reason: 'error', by: 'belay' });
    await until(async () => (await life.executions.get(id)).orderId !== undefined, 'an order in the record');
    const { orderId = '' } = await life.executions.get(id);
    expect(orderId).not.toBe(order.id);
    // The orchestrator names the targets after the record has the order.
    await until(async () => (await orders.progress(orderId)).isResolved, 'its targets');
    expect((await orders.receipt(orderId)).targets.map((target) => target.agentId)).toEqual([agentId]);
  });

  it('has a deadline that holds until the stop it asks for is stored', async () => {
    const id = await createExecution(life, spec([node('a')], { timeoutMs: 1 }));
    const { redis, keys } = valkey;
    const events = keys.execution(id, 'events');
    await redis.rename(events, `${events}:kept`);
    await redis.set(events, 'no stream');
    await until(async () => (await valkey.timeAt(events)) > (await deadlineOf(id)), 'the deadline');
    // As if this process died here.
    killswitch.stopListening();
    await janitor.sweep();
    killswitch.start();
    await redis.rename(`${events}:kept`, events);
    await until(async () => {
      await janitor.sweep();
      return (await life.executions.get(id)).state === 'stopped';
    }, 'the stop');
    expect(await life.executions.get(id)).toMatchObject({ reason: 'timeout' });
  });

  const deadlineOf = async (id: string): Promise<number> =>
    Number(await valkey.redis.hget(valkey.keys.execution(id), 'deadlineAt'));
});

describe('R51 R52 a kill while the server is away for longer than a script waits', () => {
  it.each<[string, (id: string) => Scope]>([
    ['everything', () => ({ type: 'all' })],
    ['one execution', (executionId) => ({ type: 'execution', executionId })],
  ])('of %s is carried out by the sweep: its receipt waits for each execution', async (_what, scopeOf) => {
    const id = await createExecution(life, spec([node('a')]));
    const away = new OutcomeUnknownError('script stopExecution', new Error('Connection is closed.'));
    jest.spyOn(life.executions, 'stop').mockRejectedValueOnce(away);
    await killswitch.placeOrder({ scope: scopeOf(id), by: 'me' }).catch(() => undefined);
    const [order] = await orders.open();
    expect(order).toBeDefined();
    await killswitch.sweep();
    expect(await orders.receipt(order?.id ?? '')).toMatchObject({ complete: true, executions: [id] });
    expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', orderId: order?.id });
  });
});

describe('R51 R52 orders when clocks disagree', () => {
  /** As if the shard's clock were an hour ahead of the clock of the orders' placing. */
  async function ahead(id: string): Promise<void> {
    const fields = { createdAt: Date.now() + HOUR, retriedAt: Date.now() + HOUR };
    await valkey.redis.hset(valkey.keys.execution(id), fields);
    const index = valkey.keys.shard(valkey.keys.tagOf(id), 'idx:exe:running');
    if ((await valkey.redis.zscore(index, id)) !== null) await valkey.redis.zadd(index, fields.createdAt, id);
  }

  it.each<[string, (id: string) => Scope]>([
    ['by its id', (id) => ({ type: 'execution', executionId: id })],
    ['by everything', () => ({ type: 'all' })],
    ['by labels', () => ({ type: 'selector', selector: 'team=data' })],
  ])(
    'an execution that was retried before a kill %s is stopped, whatever its shard’s clock says',
    async (_what, scopeOf) => {
      const { id } = await running();
      await ahead(id);
      const receipt = await kill(scopeOf(id));
      expect(receipt.targets.map(({ executionId }) => executionId)).toEqual([id]);
      expect(await life.executions.get(id)).toMatchObject({ state: 'stopping', orderId: receipt.orderId });
    },
  );

  it('an execution that was retried after a kill is not stopped by carrying it out late, whatever the clocks say', async () => {
    const first = await running();
    const placed = await killswitch.placeOrder({
      scope: { type: 'execution', executionId: first.id },
      by: 'me',
    });
    await life.agents.finish(first.fence, { state: 'killed', report: REPORT });
    await life.executions.retry(first.id, { retryId: 'r', actor: 'me', force: false });
    const again = await startNext(life, first.id);
    const late: Order = { ...placed, placedAt: placed.placedAt + HOUR };
    await killswitch.carryOut(late);
    expect(await life.executions.get(first.id)).toMatchObject({ state: 'running' });
    expect(await life.agents.get(again.agentId)).toMatchObject({ state: 'running' });
  });

  it('a stop after a retry is a stop, although the order from before the retry is still open', async () => {
    const first = await running();
    const scope = { type: 'execution', executionId: first.id } as const;
    const before = await killswitch.placeOrder({ scope, by: 'me' });
    await life.agents.finish(first.fence, { state: 'failed', reason: 'worker_lost', lost: true });
    await killswitch.sweep();
    expect((await orders.receipt(before.id)).complete).toBe(false);
    await eventually(
      async () => isEnded(EXECUTION_MACHINE, (await life.executions.get(first.id)).state),
      'its end',
    );
    await life.executions.retry(first.id, { retryId: 'r', actor: 'me', force: true });
    const again = await startNext(life, first.id);
    const after = await killswitch.placeOrder({ scope, by: 'me' });
    expect(after.id).not.toBe(before.id);
    expect(await life.executions.get(first.id)).toMatchObject({ state: 'stopping', orderId: after.id });
    const { targets } = await orders.receipt(after.id);
    expect(targets.map(({ agentId }) => agentId)).toContain(again.agentId);
    // The older order takes no agent that a worker claimed since.
    const target = { agentId: again.agentId, executionId: first.id, nodeId: 'a', workerId: WORKER };
    expect(await orders.addTargets(before.id, [{ ...target, outcome: 'pending' }], false)).toBe(false);
  });

  it('a stop whose giver died names no agent of a retry when the sweep carries it out', async () => {
    const first = await running();
    const scope = { type: 'execution', executionId: first.id } as const;
    const { [valkey.keys.tagOf(first.id)]: count = 0 } = await life.agents.beginnings();
    const { order } = await orders.place({
      id: `ord_${ulid()}`,
      kind: 'kill',
      scope,
      mode: 'graceful',
      reason: 'killswitch',
      by: 'me',
      reach: { [valkey.keys.tagOf(first.id)]: count },
    });
    await life.executions.stop(first.id, { reason: 'killswitch', orderId: order.id });
    await life.agents.finish(first.fence, { state: 'killed', report: REPORT, orderId: order.id });
    await life.executions.retry(first.id, { retryId: 'r', actor: 'me', force: false });
    const again = await startNext(life, first.id);
    await killswitch.sweep();
    const { targets } = await orders.receipt(order.id);
    expect(targets.map(({ agentId }) => agentId)).toEqual([first.agentId]);
    expect(await life.agents.get(again.agentId)).toMatchObject({ state: 'running' });
    // A later stop reaches it.
    const stop = await killswitch.placeOrder({ scope, by: 'me' });
    expect((await orders.receipt(stop.id)).targets.map(({ agentId }) => agentId)).toEqual([again.agentId]);
  });

  it('an agent that began after a kill without a latch was resolved is not its target when it is carried out again', async () => {
    const before = await running();
    const order = await killswitch.placeOrder({ scope: { type: 'all' }, by: 'me' });
    const after = await running();
    await killswitch.carryOut({ ...order, placedAt: order.placedAt + HOUR });
    const { targets } = await orders.receipt(order.id);
    expect(targets.map(({ agentId }) => agentId)).toEqual([before.agentId]);
    expect(await life.executions.get(after.id)).toMatchObject({ state: 'running' });
  });

  it('R50 names an agent of a shard whose count is missing: the order is open while it is carried out', async () => {
    const { agentId } = await running();
    const { order } = await orders.place({ ...killOf({ type: 'pool', pool: 'default' }), reach: {} });
    await killswitch.carryOut(order);
    expect((await orders.receipt(order.id)).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
  });

  it('names agents that it ended before they could be read, though the shard’s clock is behind', async () => {
    const one = await running();
    const { keys, redis } = valkey;
    const order = await killswitch.placeOrder({ scope: { type: 'pool', pool: 'none' }, by: 'me' });
    await redis.hdel(keys.order(order.id), 'resolvedAt');
    await redis.hset(keys.order(order.id), 'state', 'open');
    await life.agents.finish(one.fence, { state: 'killed', report: REPORT, orderId: order.id });
    await redis.zadd(keys.shard(keys.tagOf(one.id), 'idx:agt:ended'), Date.now() - HOUR, one.agentId);
    await killswitch.carryOut(order);
    const { targets } = await orders.receipt(order.id);
    expect(targets.map(({ agentId }) => agentId)).toEqual([one.agentId]);
  });
});

describe('R31 R52 a kill beside a corrupt key', () => {
  const KEYS = [
    'idx:ord',
    'audit',
    'audit:head',
    'events',
    'events:seq',
    'orders',
    'orders:open',
    'orders:by-scope',
    'latches:version',
  ];

  // An order for an execution brings no latch, and joins others. An order for everything brings a latch.
  it.each([
    ...KEYS.map((name) => [name, name === 'orders:by-scope' ? 'execution' : 'all'] as const),
    ['orders', 'execution'] as const,
  ])(
    '%s of another type: a kill of %s is stored, announced and carried out, and the key is set aside',
    async (name, what) => {
      const { redis, keys } = valkey;
      const { id, agentId, fence } = await running();
      const key = keys.shard(keys.control, name);
      await redis.del(key);
      await (name === 'events:seq' || name === 'latches:version'
        ? redis.lpush(key, 'x')
        : redis.set(key, 'x'));
      const heard: string[] = [];
      const ears = valkey.connections.create('subscriber');
      ears.on('message', (_channel: string, message: string) => heard.push(message));
      await ears.subscribe(keys.doorbellChannel);
      const scope: Scope = what === 'all' ? { type: 'all' } : { type: 'execution', executionId: id };
      const order = await killswitch.placeOrder({ scope, by: 'me', latch: what === 'all' });
      expect((await orders.receipt(order.id)).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
      await until(async () => heard.some((message) => message.includes(order.id)), 'the doorbell');
      await life.agents.finish(fence, { state: 'killed', report: REPORT, orderId: order.id });
      await killswitch.sweep();
      expect(await orders.receipt(order.id)).toMatchObject({ complete: true, totals: { killed: 1 } });
      expect((await valkey.quarantine.list()).map((entry) => entry.key)).toContainEqual(
        expect.stringContaining(key),
      );
      ears.disconnect();
    },
  );

  it('a list of open orders of another type, and the newest order too: the others stay open', async () => {
    const { redis, keys } = valkey;
    const kills = [];
    for (const { id } of [await running(), await running()])
      kills.push(
        await killswitch.placeOrder({
          scope: { type: 'execution', executionId: id },
          by: 'me',
          latch: false,
        }),
      );
    const [first, second] = kills.map(({ id }) => id);
    await redis.set(keys.order(second ?? ''), 'x');
    await redis.set(keys.shard(keys.control, 'orders:open'), 'x');
    const third = await killswitch.placeOrder({ scope: { type: 'all' }, by: 'me', latch: true });
    expect((await orders.open()).map(({ id }) => id)).toEqual(expect.arrayContaining([first, third.id]));
  });
});

describe('R50 R51 a kill of labels while the server is away for one read', () => {
  const AWAY = new Error('read ECONNRESET');
  const scope: Scope = { type: 'selector', selector: 'team=data' };
  afterEach(() => jest.restoreAllMocks());

  /** A live agent whose own labels do not match, in an execution whose labels match. */
  const elsewhere = async (): Promise<StartedAgent> => {
    const nodes = [node('a', { labels: { team: 'other' } })];
    return startNext(life, await createExecution(life, spec(nodes, { labels: { team: 'data' } })));
  };

  it('reads the live agents of an execution again, and names them', async () => {
    const { agentId } = await elsewhere();
    jest.spyOn(life.agents, 'liveOf').mockRejectedValueOnce(AWAY);
    expect(await kill(scope)).toMatchObject({ complete: false, targets: [{ agentId, outcome: 'pending' }] });
  });

  it('is not resolved while they cannot be read, so that the sweep carries it out', async () => {
    const { agentId } = await elsewhere();
    const { order } = await orders.place(killOf(scope));
    jest.spyOn(life.agents, 'liveOf').mockRejectedValueOnce(AWAY);
    await expect(killswitch.carryOut(order)).rejects.toThrow(AWAY);
    expect((await orders.progress(order.id)).isResolved).toBe(false);
    await killswitch.sweep();
    expect((await orders.receipt(order.id)).targets).toMatchObject([{ agentId, outcome: 'pending' }]);
  });

  it('plans nothing from a failed read', async () => {
    await elsewhere();
    jest.spyOn(life.agents, 'liveOf').mockRejectedValueOnce(AWAY);
    await expect(killswitch.dryRun(scope)).rejects.toThrow(AWAY);
  });
});

describe('R1 an order’s state', () => {
  it('moves as its table says and not otherwise', async () => {
    const { redis, keys } = valkey;
    await running();
    const { orderId } = await kill({ type: 'all' });
    await redis.hset(keys.order(orderId), 'state', 'flying');
    await redis.del(`${keys.order(orderId)}:missing`);
    await orders.expire(orderId);
    expect(await redis.hget(keys.order(orderId), 'state')).toBe('flying');
  });
});

describe('R49 the text of a kill’s receipt', () => {
  it('names the executions it stopped, those that nothing ran of too', async () => {
    const labels = { team: 'data' };
    const idle = await createExecution(life, spec([node('a')], { labels }), false);
    const waiting = await createExecution(life, spec([node('a')], { labels }));
    const { id } = await running();
    await createExecution(life, spec([node('a')], { labels: { team: 'other' } }));
    const receipt = await kill({ type: 'selector', selector: 'team=data' });
    expect([...(receipt.executions ?? [])].sort()).toEqual([id, idle, waiting].sort());
  });

  it.each<[string, (id: string) => Scope]>([
    ['everything', () => ({ type: 'all' })],
    ['its labels', () => ({ type: 'selector', selector: 'team=data' })],
    ['the execution', (id) => ({ type: 'execution', executionId: id })],
  ])(
    'names the execution whose agents a kill of %s ended before its giver came to the execution',
    async (_what, scopeOf) => {
      const id = await createExecution(
        life,
        spec([node('a'), node('b')], { labels: { team: 'data' }, onFailure: 'stop' }),
      );
      const agents = await startAll(life, id);
      const orderId = `ord_${ulid()}`;
      const placed = await orders.place(
        { id: orderId, kind: 'kill', scope: scopeOf(id), mode: 'immediate', reason: 'killswitch', by: 'me' },
        undefined,
      );
      // The workers report once they have heard the doorbell.
      for (const { fence } of agents)
        await life.agents.finish(fence, { state: 'killed', report: REPORT, orderId });
      expect(await life.executions.get(id)).toMatchObject({ state: 'stopped', orderId });
      await killswitch.carryOut(placed.order);
      expect(await orders.receipt(orderId)).toMatchObject({ executions: [id], totals: { total: 2 } });
    },
  );

  it('names no execution of which it was given one agent, or the agents of a pool', async () => {
    const one = await running();
    const order = await killswitch.placeOrder({ scope: { type: 'pool', pool: 'default' }, by: 'me' });
    await life.agents.finish(one.fence, { state: 'killed', report: REPORT, orderId: order.id });
    await killswitch.carryOut(order);
    expect((await orders.receipt(order.id)).executions ?? []).toEqual([]);
  });

  it.each<[string, Scope]>([
    ['an agent', { type: 'agent', agentId: `agt_${ulid()}-0-1` }],
    ['an execution', { type: 'execution', executionId: `exe_${ulid()}` }],
    ['a worker', { type: 'worker', workerId: `wrk_${ulid()}` }],
  ])('a kill of %s nobody knows is refused, and nothing of it is stored', async (_what, scope) => {
    await expect(killswitch.placeOrder({ scope, by: 'me' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const { redis, keys } = valkey;
    expect(await redis.xlen(keys.shard(keys.control, 'audit'))).toBe(0);
    expect(await redis.xlen(keys.shard(keys.control, 'orders'))).toBe(0);
  });
});
