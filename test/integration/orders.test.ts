import type { AgentRecord, Order } from '#libs/contracts';
import { ulid } from 'ulid';
import { running as agentsRunning } from '../support/executions';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';

const SLEEP = { command: ['echo ready; exec sleep 600'], shell: true };

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    workers: 2,
    env: { BELAY_GRACE_MS: '300', BELAY_HEARTBEAT_MS: '300', BELAY_WORKER_CONCURRENCY: '16' },
  });
});
afterAll(async () => fleet.stop());
afterEach(async () => {
  await fleet.client.kill({ scope: { type: 'all' }, latch: false, mode: 'immediate' });
});

async function submit(nodes: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes, ...more });
  return execution.id;
}

const running = async (id: string, count = 1): Promise<AgentRecord[]> =>
  agentsRunning(fleet.client, id, count, 60_000);

function killOf(executionId: string, placedAt: number): Order {
  return {
    id: `ord_${ulid()}`,
    seq: '1-0',
    kind: 'kill',
    scope: { type: 'execution', executionId },
    mode: 'immediate',
    reason: 'killswitch',
    by: 'test',
    placedAt,
  };
}

/** Writes to the log like placeOrder, with the doorbell lost: workers can find the order only by reading the log. */
async function logSilently(orderId: string, order: unknown): Promise<void> {
  const { redis, keys } = fleet.life.valkey;
  const fields = { order: JSON.stringify(order), state: 'open', missing: 0, scopeKey: '' };
  await redis
    .multi()
    .hset(keys.order(orderId), fields)
    .xadd(keys.shard(keys.control, 'orders'), '*', 'id', orderId)
    .exec();
}

const gone = async (id: string): Promise<void> => {
  await eventually(async () => processesWith(id).length === 0, `the processes of ${id} ended`, 15_000);
};

/** Waits until each worker has answered a question that came after all earlier doorbells. */
const heardAll = async (): Promise<void> => expect((await fleet.client.armed()).armed).toBe(true);

/** Each worker has renewed its lease at least twice more. */
async function beats(): Promise<void> {
  const before = new Map(
    (await fleet.client.workers()).items.map(({ id, lastHeartbeatAt = 0 }) => [id, lastHeartbeatAt]),
  );
  await eventually(
    async () =>
      (await fleet.client.workers()).items.every(
        ({ id, lastHeartbeatAt = 0 }) => lastHeartbeatAt > (before.get(id) ?? 0) + 600,
      ),
    'two more heartbeats of each worker',
  );
}

describe('the log of orders', () => {
  const MALFORMED: Record<string, (order: Order) => unknown> = {
    'without a scope': (order) => ({ ...order, scope: undefined }),
    'of an unknown kind': (order) => ({ ...order, kind: 'drown' }),
    'with a selector nobody can read': (order) => ({ ...order, scope: { type: 'selector', selector: '=' } }),
    'that is a list': () => [],
    'that is null': () => null,
  };

  it.each(Object.keys(MALFORMED))(
    'R31 R52 an order %s is set aside, and the orders behind it are obeyed though their doorbell was lost',
    async (what) => {
      const id = await submit([{ id: 'a', run: SLEEP }]);
      const [agent] = await running(id);
      const bad = killOf(id, agent!.createdAt);
      await logSilently(bad.id, MALFORMED[what]?.(bad));
      const good = killOf(id, agent!.createdAt + 1);
      await logSilently(good.id, good);
      await gone(id);
      expect(processesWith(id)).toEqual([]);
      const { keys } = fleet.life.valkey;
      await eventually(
        async () => (await fleet.client.quarantine()).items.some(({ key }) => key === keys.order(bad.id)),
        'the order set aside',
      );
    },
  );
});

describe('the doorbell', () => {
  it('R52 a message that names no order in the log stops nothing', async () => {
    const id = await submit([{ id: 'a', run: SLEEP }]);
    const [agent] = await running(id);
    const { redis, keys } = fleet.life.valkey;
    const forged = killOf(id, agent!.createdAt + 3_600_000);
    for (const scope of [forged.scope, { type: 'all' }, { type: 'agent', agentId: agent!.id }])
      await redis.publish(
        keys.doorbellChannel,
        JSON.stringify({ order: { ...forged, seq: '9-0', scope }, targets: [agent!.id] }),
      );
    await heardAll();
    await beats();
    expect((await running(id))[0]).toMatchObject({ id: agent!.id, attempt: 1 });
    expect(processesWith(id)).not.toEqual([]);
    // An order that nobody placed is not stored either.
    expect(await redis.exists(keys.order(forged.id))).toBe(0);
  });

  it('R52 a message with more than the log’s order changes neither its scope nor its targets', async () => {
    const deaf = { command: [`trap '' TERM; echo ready; while :; do sleep 0.1; done`], shell: true };
    const victim = await submit([{ id: 'a', run: deaf }]);
    const bystander = await submit([{ id: 'a', run: SLEEP }]);
    await running(victim);
    const [other] = await running(bystander);
    const { redis, keys } = fleet.life.valkey;
    const { order } = await fleet.client.killWithoutWaiting({
      scope: { type: 'execution', executionId: victim },
      graceMs: 3_000,
    });
    await redis.publish(
      keys.doorbellChannel,
      JSON.stringify({ order: { ...order, scope: { type: 'all' } }, targets: [other!.id] }),
    );
    await heardAll();
    await gone(victim);
    expect((await running(bystander))[0]).toMatchObject({ id: other!.id });
    expect((await fleet.client.receipt(order.id)).targets.map(({ executionId }) => executionId)).toEqual([
      victim,
    ]);
  });
});
