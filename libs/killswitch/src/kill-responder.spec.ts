import { OutcomeUnknownError, type Order, type Scope, type TargetReceipt } from '#libs/contracts';
import type { Heartbeat, LifecycleService } from '#libs/lifecycle';
import { AgentSlot, type AgentEnded, type AgentSlots } from '#libs/spawner';
import type { Valkey } from '#libs/valkey';
import { Subject } from 'rxjs';
import { ulid } from 'ulid';
import { killOf, orderStores } from '../../../test/support/killswitch';
import { stopReport, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { KillResponder } from './kill-responder';
import type { OrderStore } from './order-store';
import type { OrderServed } from './target-reports';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const OTHER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZY';
const signal = new AbortController().signal;

let valkey: Valkey;
let life: LifecycleService;
let orders: OrderStore;
let responder: KillResponder;
let slots: AgentSlot[];
let ends: Subject<AgentEnded>;
/** The ids of stopped agents, in order. */
let stopped: string[];
useLife((rig) => ({ valkey, life } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  orders = orderStores(valkey).orders;
  slots = [];
  ends = new Subject();
  stopped = [];
  responder = new KillResponder(valkey, orders, agents(), {
    workerId: WORKER,
    onError: (error) => {
      throw error;
    },
    describe: async () => ({ containment: 'marks', isolation: 'same-user', guardian: true, running: 0 }),
  });
  await life.workers.register(WORKER, { pools: 'default' }, 60_000);
});
afterEach(() => {
  responder.stop();
  jest.restoreAllMocks();
});

/** The attempts of a worker whose agents have no processes. */
function agents(): AgentSlots {
  return {
    ended$: ends,
    slotsWhere: (matches: (slot: AgentSlot) => boolean) => slots.filter(matches),
    stopWhere: (matches: (slot: AgentSlot) => boolean) => {
      const hit = slots.filter(matches);
      stopped.push(...hit.map(({ agentId }) => agentId));
      return hit.length;
    },
    thawWhere: () => [],
  } as unknown as AgentSlots;
}

function slot(executionId: string, index: number, born = 1): AgentSlot {
  const agentId = `agt_${executionId.slice(4)}-${index}-1`;
  const made = new AgentSlot({ agentId, executionId, nodeId: `n${index}`, attempt: 1 }, WORKER);
  const fence = { agentId, owner: WORKER, epoch: 1 };
  made.granted({ fence, claimedAt: 1, born, pool: 'default', labels: {}, node: {} });
  return made;
}

const place = async (executionId: string): Promise<Order> => placeOn({ type: 'execution', executionId });

const placeOn = async (scope: Scope): Promise<Order> => (await orders.place(killOf(scope))).order;

const target = (executionId: string, index: number, workerId: string): TargetReceipt => ({
  agentId: `agt_${executionId.slice(4)}-${index}-1`,
  executionId,
  nodeId: `n${index}`,
  workerId,
  outcome: 'pending',
});

/** A heartbeat, with all that it does for orders. */
async function beat(of = responder): Promise<void> {
  const answer: Heartbeat = await life.workers.heartbeat(WORKER, 60_000, slots.length);
  await of.noticeHead(answer, signal);
}

/** A responder of the same worker, with its errors collected. */
const other = (errors: unknown[], readMs = 5_000): KillResponder =>
  new KillResponder(valkey, orders, agents(), {
    workerId: WORKER,
    onError: (error) => errors.push(error),
    describe: async () => ({ containment: 'marks', isolation: 'same-user', guardian: true, running: 0 }),
    readMs,
  });

/** The commands sent to the server during `work`, by name. */
async function commandsOf(work: () => Promise<unknown>): Promise<string[]> {
  const sent: string[] = [];
  const spy = jest.spyOn(valkey.redis, 'sendCommand');
  await work();
  for (const [{ name, args }] of spy.mock.calls)
    sent.push(`${name} ${String(args[name === 'evalsha' ? 2 : 0])}`);
  spy.mockRestore();
  return sent;
}

describe('a heartbeat’s side work', () => {
  it('of an idle worker is a few commands, however many orders of others are open', async () => {
    const ids = Array.from({ length: 2_001 }, () => `exe_${ulid()}`);
    for (let i = 0; i < ids.length; i += 50) await Promise.all(ids.slice(i, i + 50).map(place));
    while (responder.watching < ids.length) await beat();
    const sent = await commandsOf(beat);
    expect(sent.length).toBeLessThanOrEqual(4);
  }, 120_000);

  it('reads of a receipt of 5,000 targets the worker’s own, and serves them when both rings were lost', async () => {
    const executionId = `exe_${ulid()}`;
    const order = await place(`exe_${ulid()}`);
    const own = [slot(executionId, 7), slot(executionId, 8)];
    slots.push(...own);
    const targets = Array.from({ length: 5_000 }, (_, i) =>
      target(executionId, i, i === 7 || i === 8 ? WORKER : OTHER),
    );
    await orders.addTargets(order.id, targets, true);
    await beat();
    expect(stopped.toSorted()).toEqual(own.map(({ agentId }) => agentId));
    const sent = await commandsOf(beat);
    expect(sent.length).toBeLessThanOrEqual(5);
    expect(sent.filter((command) => command.includes(':targets') && !command.includes(WORKER))).toEqual([]);
    // Once the targets are reported there is nothing left to look at.
    for (const one of targets.filter(({ workerId }) => workerId === WORKER))
      await orders.report(order.id, { ...one, outcome: 'killed' });
    expect((await commandsOf(beat)).length).toBeLessThanOrEqual(2);
    expect((await life.workers.heartbeat(WORKER, 60_000, 0)).targets).toBe(0);
  }, 120_000);
});

describe('R52 an order', () => {
  it('whose doorbell rang before this worker listened is obeyed as soon as it listens', async () => {
    const one = slot(`exe_${ulid()}`, 0);
    slots.push(one);
    await place(one.executionId);
    await responder.start('0-0');
    await eventually(() => stopped.length > 0, 'the stop', 10_000);
    expect(stopped).toEqual([one.agentId]);
  });

  it('R50 that was resolved reaches agents that had begun by then, and none that began after it', async () => {
    const [old, late] = [slot(`exe_${ulid()}`, 0, 5), slot(`exe_${ulid()}`, 0, 6)];
    slots.push(old, late);
    const order = await placeOn({ type: 'all' });
    const reach = Object.fromEntries(valkey.keys.tags().map((tag) => [tag, 5]));
    await orders.addTargets(order.id, [], { reach, stopped: [] });
    expect(responder.apply({ order, reach })).toBe(1);
    // The worker asks whether the order takes the late agent: the order is over.
    await eventually(() => responder.watching === 0, 'the answer');
    expect(stopped).toEqual([old.agentId]);
  });

  it.each([
    ['open', 1],
    ['over', 0],
  ] as const)(
    'R50 whose reach lacks a shard reaches its agents only after asking: it is %s',
    async (state, count) => {
      const one = slot(`exe_${ulid()}`, 0, 1);
      slots.push(one);
      const order = await placeOn({ type: 'all' });
      if (state === 'over') await orders.addTargets(order.id, [], { reach: {}, stopped: [] });
      expect(responder.apply({ order, reach: {} })).toBe(0);
      await eventually(() => (count === 1 ? stopped.length > 0 : responder.watching === 0), 'the answer');
      expect(stopped).toHaveLength(count);
      expect((await orders.receipt(order.id)).targets).toHaveLength(count);
    },
  );

  it('that is open stops attempts that are claimed meanwhile before they are spawned, and names them; an ended one does not', async () => {
    const order = await placeOn({ type: 'all' });
    responder.apply({ order, reach: undefined });
    const one = slot(`exe_${ulid()}`, 0, 7);
    slots.push(one);
    await responder.beforeSpawn(one);
    expect(stopped).toEqual([one.agentId]);
    const { targets } = await orders.receipt(order.id);
    expect(targets).toMatchObject([{ agentId: one.agentId, workerId: WORKER, outcome: 'pending' }]);
    await orders.addTargets(order.id, [], true);
    await orders.report(order.id, { ...targets[0]!, outcome: 'killed' });
    const two = slot(`exe_${ulid()}`, 0, 8);
    slots.push(two);
    await responder.beforeSpawn(two);
    expect(stopped).toEqual([one.agentId]);
  });
});

describe('R52 a wide order without a latch that may take an agent claimed after it was resolved', () => {
  const NO_ANSWER = new OutcomeUnknownError('script addTargets', new Error('read ECONNRESET'));
  let errors: unknown[];
  let worker: KillResponder;
  let late: AgentSlot;
  beforeEach(() => {
    errors = [];
    worker = other(errors);
    late = slot(`exe_${ulid()}`, 0);
    slots.push(late);
  });
  afterEach(() => worker.stop());

  /** It is open while a target on another worker uses its grace. */
  async function openOrder(): Promise<Order> {
    const order = await placeOn({ type: 'pool', pool: 'default' });
    await orders.addTargets(order.id, [target(`exe_${ulid()}`, 0, OTHER)], { reach: {}, stopped: [] });
    return order;
  }

  /** Puts another type in the place of the order's record. The result mends it. */
  async function spoil({ id }: Order): Promise<() => Promise<unknown>> {
    const key = valkey.keys.order(id);
    await valkey.redis.rename(key, `${key}:aside`);
    await valkey.redis.set(key, 'spoilt');
    return async () => valkey.redis.rename(`${key}:aside`, key);
  }

  it('is asked about again with each heartbeat until there is an answer, for an agent that runs', async () => {
    await openOrder();
    const asked = jest
      .spyOn(orders, 'addTargets')
      .mockRejectedValueOnce(NO_ANSWER)
      .mockRejectedValueOnce(NO_ANSWER);
    await beat(worker);
    await eventually(() => errors.length > 0, 'the first failure');
    expect(stopped).toEqual([]);
    await beat(worker);
    await beat(worker);
    await eventually(() => stopped.length > 0, 'the stop');
    expect(stopped).toEqual([late.agentId]);
    expect(errors).toEqual([NO_ANSWER]);
    await beat(worker);
    expect(asked).toHaveBeenCalledTimes(3);
  });

  it('is not asked about again for an agent that has ended', async () => {
    await openOrder();
    const asked = jest.spyOn(orders, 'addTargets').mockRejectedValue(NO_ANSWER);
    await beat(worker);
    await eventually(() => errors.length > 0, 'the first failure');
    slots = [];
    await beat(worker);
    expect(asked).toHaveBeenCalledTimes(1);
  });

  it('R31 is asked about again while its record cannot be read, and stops the agent once it is mended', async () => {
    const order = await openOrder();
    const mend = await spoil(order);
    worker.apply({ order, reach: {} });
    await eventually(() => errors.length > 0, 'the first failure');
    await beat(worker);
    await mend();
    await beat(worker);
    await eventually(() => stopped.length > 0, 'the stop');
    expect(errors).toMatchObject([{ code: 'CORRUPT_RECORD' }]);
  });

  it('is no answer for an attempt that is about to start, until the server answers', async () => {
    const order = await openOrder();
    slots = [];
    worker.apply({ order, reach: {} });
    slots = [late];
    jest.spyOn(orders, 'addTargets').mockRejectedValueOnce(NO_ANSWER);
    await expect(worker.beforeSpawn(late)).rejects.toBe(NO_ANSWER);
    await worker.beforeSpawn(late);
    expect(stopped).toEqual([late.agentId]);
  });

  it('R31 says of an attempt about to start that one order cannot be read, and obeys the other', async () => {
    const [bad, good] = [await openOrder(), await openOrder()];
    slots = [];
    for (const order of [bad, good]) worker.apply({ order, reach: {} });
    slots = [late];
    await spoil(bad);
    const ask = orders.addTargets.bind(orders);
    const asked = jest.spyOn(orders, 'addTargets').mockImplementation(async (id, ...rest) => {
      if (id === good.id) throw NO_ANSWER;
      return ask(id, ...rest);
    });
    // The caller repeats only an unknown outcome, so that error comes first.
    await expect(worker.beforeSpawn(late)).rejects.toBe(NO_ANSWER);
    asked.mockRestore();
    await expect(worker.beforeSpawn(late)).rejects.toMatchObject({
      code: 'CORRUPT_RECORD',
      message: expect.stringContaining(bad.id) as string,
    });
    expect(stopped).toEqual([late.agentId]);
  });

  it.each([
    ['is stored again and stops the attempt', 'knows it', 1],
    ['takes nothing', 'has forgotten it', 0],
  ] as const)('that a failover lost %s where the worker %s', async (_what, knows, count) => {
    const order = await openOrder();
    slots = [];
    worker.apply({ order, reach: {} });
    slots = [late];
    await valkey.redis.flushall();
    if (knows === 'has forgotten it') jest.spyOn(orders, 'again').mockResolvedValue(undefined);
    await worker.beforeSpawn(late);
    expect([stopped.length, worker.watching]).toEqual([count, count]);
  });

  it('is a thaw: the attempt starts although there is no answer, and the next heartbeat asks again', async () => {
    const { order } = await orders.place({ ...killOf({ type: 'pool', pool: 'default' }), kind: 'thaw' });
    slots = [];
    worker.apply({ order, reach: {} });
    slots = [late];
    const asked = jest.spyOn(orders, 'addTargets').mockRejectedValueOnce(NO_ANSWER);
    await worker.beforeSpawn(late);
    expect(errors).toEqual([NO_ANSWER]);
    await beat(worker);
    await eventually(() => asked.mock.calls.length > 1, 'the second question');
  });
});

describe('R19 R51 the end of an agent that an order stopped', () => {
  const REPORT = stopReport({ signalledAfterMs: 10, firstExitAfterMs: 20, provedAfterMs: 30 });
  const end = (slot: AgentSlot, over: Partial<AgentEnded>): AgentEnded => ({
    slot,
    fence: slot.fence!,
    executionId: slot.executionId,
    nodeId: slot.nodeId,
    outcome: { state: 'killed' },
    order: undefined,
    confirmed: true,
    report: REPORT,
    ...over,
  });

  it.each([
    ['killed', 'was seen dead', {}],
    ['already-ended', 'ended by itself', { outcome: { state: 'completed' } }],
    ['killed', 'was fenced by its worker', { outcome: { state: 'failed', reason: 'worker_lost' } }],
    ['unconfirmed', 'is not proved dead yet', { outcome: undefined, confirmed: false }],
    ['unconfirmed', 'is not proved dead, although its state says killed', { confirmed: false }],
  ] as const)('is told as %s when it %s', async (outcome, _what, over) => {
    const one = slot(`exe_${ulid()}`, 0);
    slots.push(one);
    const served: OrderServed[] = [];
    responder.served$.subscribe((each) => served.push(each));
    await responder.start('0-0');
    const order = await place(one.executionId);
    await eventually(() => stopped.length > 0, 'the stop');
    ends.next(end(one, over));
    await eventually(async () => (await orders.receipt(order.id)).targets.length === 1, 'the report');
    expect(served.map(({ target }) => target.outcome)).toEqual([outcome]);
    expect((await orders.receipt(order.id)).targets).toMatchObject([{ agentId: one.agentId, outcome }]);
    // Times count from the placing of the order, so each of them contains the time before the worker was asked.
    const { signalledMs = 0, firstExitMs = 0, provedMs = 0 } = served[0]?.target.latency ?? {};
    expect(signalledMs).toBeGreaterThanOrEqual(10);
    expect(firstExitMs - signalledMs).toBeCloseTo(10);
    expect(provedMs - firstExitMs).toBeCloseTo(10);
  });
});

describe('the orders log', () => {
  it('R52 with an order that cannot be obeyed: those behind it are, at once, and it is with the next heartbeat', async () => {
    const errors: unknown[] = [];
    const worker = other(errors);
    const [bad, good] = [`exe_${ulid()}`, `exe_${ulid()}`];
    slots.push(slot(bad, 0), slot(good, 0));
    const fault = new Error('no');
    const { id: unlucky } = await place(bad);
    await place(good);
    const at = jest.spyOn(orders, 'keep').mockImplementation(({ id }) => {
      if (id === unlucky) throw fault;
    });
    await worker.catchUp();
    expect([stopped, errors]).toEqual([[slots[1]!.agentId], [fault]]);
    at.mockRestore();
    await worker.noticeHead(await life.workers.heartbeat(WORKER, 60_000, 2), signal);
    expect(stopped).toEqual([slots[1]!.agentId, slots[0]!.agentId]);
  });

  it('R52 whose reading hangs is read again: an unanswered read does not keep the next one from running', async () => {
    const errors: unknown[] = [];
    const worker = other(errors, 50);
    const executionId = `exe_${ulid()}`;
    slots.push(slot(executionId, 0));
    await place(executionId);
    jest.spyOn(orders, 'since').mockImplementationOnce(async () => new Promise(() => undefined));
    await worker.catchUp();
    expect(errors).toMatchObject([{ code: 'TIMEOUT' }]);
    await worker.catchUp();
    expect(stopped).toEqual([slots[0]!.agentId]);
  }, 10_000);
});
