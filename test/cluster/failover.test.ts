import { setTimeout as pause } from 'node:timers/promises';
import { isBelayError, PRODUCERS_QUEUE, type ExecutionRecord, type Receipt } from '#libs/contracts';
import { ensureServer } from '#libs/local-server';
import { Queue, QueueEvents } from 'bullmq';
import { ready } from '../support/executions';
import { DEAF, ENV, sh, SMALL } from '../support/failover';
import { cutReplicas, freezePrimary, killPrimary } from '../support/failures';
import { eventually, processesWith } from '../support/fleet';
import { startCluster, startSentinelSet, type ManyServers } from '../support/many-servers';
import { fleetPerTest } from '../support/own-fleet';

const ENDED = ['completed', 'failed', 'stopped'];
/** `npm run test:cluster` uses as many as the figures of docs/deployment.md; among all other tests, fewer are used. */
const EXECUTIONS = process.env['BELAY_TEST_CLUSTER'] === 'full' ? 200 : 40;

const { begin, fleet, it, onEnd } = fleetPerTest();

/** The measurements are part of these tests' purpose. */
function tell(name: string, figures: Record<string, unknown>): void {
  process.stderr.write(`  ${name}: ${JSON.stringify(figures)}\n`);
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0);
}

describe.each([
  { mode: 'Sentinel', start: startSentinelSet, keys: ['{belay:ctl}'] },
  { mode: 'Cluster', start: startCluster, keys: ['{belay:ctl}', '{belay:1}'] },
])('$mode', ({ mode, start, keys }) => {
  async function setUp(): Promise<ManyServers> {
    const many = await start();
    onEnd(async () => many.stop());
    await begin({ url: many.url, workers: 2, env: ENV });
    return many;
  }

  async function submit(spec: unknown): Promise<string> {
    return (await fleet.client.createExecution(spec)).execution.id;
  }

  /** Accepted and not started. */
  async function hold(): Promise<string> {
    return (await fleet.client.createExecution(SMALL, { start: false })).execution.id;
  }

  const running = async (id: string, count: number): Promise<unknown> =>
    ready(fleet.client, id, count, 30_000);

  /** Another program adds a job with BullMQ alone. */
  async function produces(): Promise<void> {
    const { connections } = fleet.life.valkey;
    const prefix = mode === 'Cluster' ? '{bull}' : 'bull';
    const queue = new Queue(PRODUCERS_QUEUE, { connection: connections.create('blocking'), prefix });
    const events = new QueueEvents(PRODUCERS_QUEUE, { connection: connections.create('blocking'), prefix });
    try {
      const job = await queue.add('small', SMALL);
      expect(await job.waitUntilFinished(events, 20_000)).toMatchObject({ status: 'completed' });
    } finally {
      await Promise.allSettled([events.close(), queue.close()]);
    }
  }

  /** The record; `lost` when the server answers that there is none; undefined while it does not answer. */
  async function look(id: string): Promise<ExecutionRecord | 'lost' | undefined> {
    return fleet.life.executions.get(id).catch((error: unknown) => {
      if (isBelayError(error) && error.code === 'NOT_FOUND') return 'lost' as const;
      return undefined;
    });
  }

  /** Waits until each has ended or is gone. */
  async function ends(ids: readonly string[]): Promise<Map<string, ExecutionRecord | 'lost'>> {
    return eventually(
      async () => {
        const found = await Promise.all(ids.map(async (id) => [id, await look(id)] as const));
        const settled = found.filter(
          ([, one]) => one === 'lost' || (one !== undefined && ENDED.includes(one.state)),
        );
        return settled.length === ids.length && new Map(settled as [string, ExecutionRecord | 'lost'][]);
      },
      'the end of every accepted execution',
      100_000,
    );
  }

  it('R25 R52 runs a DAG, stops one with a complete receipt, answers the guards, follows a log and latches', async () => {
    const many = await setUp();
    const done = await submit(SMALL);
    expect((await fleet.client.waitForEnd(done)).state).toBe('completed');
    const id = await submit(DEAF);
    await running(id, 2);
    const stop = await fleet.client.stop(id);
    expect(stop).toMatchObject({
      status: 'stopped',
      receipt: { complete: true, replicated: true, totals: { killed: 2 } },
    });
    expect(processesWith(id)).toEqual([]);
    expect((await fleet.client.armed()).armed).toBe(true);
    const talker = await submit({
      name: 'talk',
      nodes: [{ id: 'a', run: sh('echo one; sleep 0.3; echo two') }],
    });
    const [agent] = await eventually(async () => {
      const { items } = await fleet.client.agents({ executionId: talker });
      return items.length > 0 && items;
    }, 'its agent');
    const lines: string[] = [];
    for await (const { line } of fleet.client.logs(agent?.id ?? '', { follow: true })) lines.push(line);
    expect(lines).toEqual(['one', 'two']);
    const server = await ensureServer({ env: { BELAY_VALKEY_URL: many.url } });
    expect(server).toMatchObject({ url: many.url, source: 'url', version: { name: expect.any(String) } });
    await produces();
    const latch = await fleet.client.engageLatch({ scope: { type: 'all' } });
    expect(latch.replicated).toBe(true);
    await expect(submit(SMALL)).rejects.toMatchObject({ code: 'LATCHED' });
    await fleet.client.releaseLatch(latch.id, 'tested');
    expect((await fleet.client.waitForEnd(await submit(SMALL))).state).toBe('completed');
    expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
    const { items } = await fleet.client.drill();
    expect(items.filter(({ passed }) => !passed)).toEqual([]);
  }, 120_000);

  it.each(keys)(
    `R25 kill -9 of the primary of %s among ${EXECUTIONS} executions: every accepted one ends as it should`,
    async (key) => {
      const many = await setUp();
      const accepted: string[] = [];
      const took: number[] = [];
      const refused: Record<string, number> = {};
      let next = 0;
      const submitter = async (): Promise<void> => {
        while (next++ < EXECUTIONS) {
          const begun = performance.now();
          try {
            accepted.push(await submit(SMALL));
          } catch (error) {
            const code = isBelayError(error) ? error.code : String(error);
            refused[code] = (refused[code] ?? 0) + 1;
          }
          took.push(performance.now() - begun);
        }
      };
      const orders: Receipt[] = [];
      const submitting = Promise.all(Array.from({ length: 6 }, submitter));
      await eventually(async () => accepted.length >= EXECUTIONS * 0.3, 'some accepted executions', 60_000);
      for (let i = 0; i < 10; i++)
        orders.push(await fleet.client.killWithoutWaiting({ scope: { type: 'pool', pool: `nobody-${i}` } }));
      const killedAt = performance.now();
      await killPrimary(many, key);
      await submitting;
      const found = await ends(accepted);
      const states: Record<string, number> = {};
      for (const one of found.values()) {
        const state = one === 'lost' ? 'lost' : one.state;
        states[state] = (states[state] ?? 0) + 1;
      }
      const kept = await Promise.all(
        orders.map(async ({ orderId }) =>
          fleet.life.valkey.redis.exists(fleet.life.valkey.keys.order(orderId)),
        ),
      );
      tell(`${mode}, primary of ${key} killed`, {
        accepted: accepted.length,
        refused,
        ends: states,
        submitMs: { p50: quantile(took, 0.5), max: quantile(took, 1) },
        allEndedAfterMs: Math.round(performance.now() - killedAt),
        orders: {
          given: orders.length,
          replicated: orders.filter(({ replicated }) => replicated).length,
          there: kept.filter(Boolean).length,
        },
      });
      expect(refused).toEqual({});
      expect(states).toEqual({ completed: EXECUTIONS });
      expect(kept.every(Boolean)).toBe(true);
      expect((await fleet.client.workers()).items.filter(({ state }) => state === 'running')).toHaveLength(2);
    },
    180_000,
  );

  it('R52 a kill given while there is no primary is obeyed, with a complete receipt', async () => {
    const many = await setUp();
    const id = await submit(DEAF);
    await running(id, 2);
    await killPrimary(many, '{belay:ctl}');
    const begun = performance.now();
    const stop = await fleet.client.stop(id);
    tell(`${mode}, kill during a failover`, {
      answeredAfterMs: Math.round(performance.now() - begun),
      replicated: stop.receipt?.replicated,
    });
    expect(stop).toMatchObject({ status: 'stopped', receipt: { complete: true } });
    expect(processesWith(id)).toEqual([]);
  }, 120_000);

  it('R52 a primary that hangs with its connections open is left behind', async () => {
    const many = await setUp();
    const id = await submit(DEAF);
    await running(id, 2);
    const thaw = await freezePrimary(many, '{belay:ctl}');
    try {
      const begun = performance.now();
      const stop = await fleet.client.stop(id);
      tell(`${mode}, kill while the primary hangs`, {
        answeredAfterMs: Math.round(performance.now() - begun),
      });
      expect(stop).toMatchObject({ status: 'stopped', receipt: { complete: true } });
      expect(processesWith(id)).toEqual([]);
    } finally {
      thaw();
    }
  }, 120_000);

  it('R52 R53 writes that only a dead primary had: its executions are gone, its orders and latches come back', async () => {
    const many = await setUp();
    const id = await submit(DEAF);
    await running(id, 2);
    // Warm: the orchestrator knows that there are replicas.
    await fleet.client.killWithoutWaiting({ scope: { type: 'pool', pool: 'nobody' } });
    await pause(300);
    const mend = await cutReplicas(many);
    const ghost = await submit({ name: 'ghost', nodes: [{ id: 'a', run: sh('echo ready; sleep 600') }] });
    await running(ghost, 1);
    const accepted: string[] = [];
    const until = performance.now() + 500;
    while (performance.now() < until) accepted.push(await hold());
    const latch = await fleet.client.engageLatch({ scope: { type: 'pool', pool: 'shut' } });
    const begun = performance.now();
    const order = await fleet.client.killWithoutWaiting({
      scope: { type: 'execution', executionId: id },
      latch: true,
    });
    const orderMs = performance.now() - begun;
    await killPrimary(many, '{belay:ctl}');
    await mend();
    const receipt = await eventually(
      async () => {
        const found = await fleet.client.receipt(order.orderId).catch(() => undefined);
        return found?.complete === true && found;
      },
      'the receipt of an order only the dead primary had',
      60_000,
    );
    const found = await eventually(async () => {
      const seen = await Promise.all(accepted.map(look));
      return seen.every((one) => one !== undefined) && seen;
    }, 'an answer about each');
    // The client that engaged the latch stores it again, maybe a moment later than a worker stores the order.
    await eventually(async () => {
      const { items } = await fleet.client.latches();
      return [latch.id, order.order.latchId].every((one) => items.some(({ id }) => id === one));
    }, 'both latches');
    const audit = await fleet.client.audit();
    tell(`${mode}, replicas cut for 500 ms`, {
      accepted: accepted.length,
      lost: found.filter((one) => one === 'lost').length,
      order: {
        replicated: order.replicated,
        answeredAfterMs: Math.round(orderMs),
        storedAgain: audit.items.some(({ again }) => again === true),
      },
      latch: { replicated: latch.replicated },
    });
    expect(order.replicated).toBe(false);
    expect(latch.replicated).toBe(false);
    expect(processesWith(id)).toEqual([]);
    expect(receipt.totals.unconfirmed).toBe(0);
    const gone = (await eventually(async () => look(ghost), 'an answer about it')) === 'lost';
    expect(mode === 'Cluster' || gone).toBe(true);
    // No order could name it any more, so its worker ends it.
    if (gone) await eventually(async () => processesWith(ghost).length === 0, 'the end of what nobody knows');
  }, 120_000);
});

it('R66 an address without a server is refused with the fault', async () => {
  const many = await startSentinelSet();
  try {
    const env = { BELAY_VALKEY_URL: many.url.replace('mymaster', 'another') };
    await expect(ensureServer({ env })).rejects.toMatchObject({
      code: 'SERVER_UNREACHABLE',
      message: expect.stringContaining('No such master with that name'),
    });
  } finally {
    await many.stop();
  }
}, 60_000);
