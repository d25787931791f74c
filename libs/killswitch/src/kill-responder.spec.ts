import type { Order, TargetReceipt } from '#libs/contracts';
import type { Heartbeat, LifecycleService } from '#libs/lifecycle';
import { AgentSlot, type AgentRunner } from '#libs/spawner';
import type { Valkey } from '#libs/valkey';
import { Subject } from 'rxjs';
import { ulid } from 'ulid';
import { useLife } from '../../../test/support/life';
import { ControlSettings } from './control-settings';
import { KillResponder } from './kill-responder';
import { LatchStore } from './latch-store';
import { OrderStore } from './order-store';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const OTHER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZY';
const signal = new AbortController().signal;

let valkey: Valkey;
let life: LifecycleService;
let orders: OrderStore;
let responder: KillResponder;
let slots: AgentSlot[];
/** Agents that were stopped, in order. */
let stopped: string[];
useLife((rig) => ({ valkey, life } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  const settings = new ControlSettings(valkey, 60_000);
  orders = new OrderStore(valkey, settings, new LatchStore(valkey, settings));
  slots = [];
  stopped = [];
  responder = new KillResponder(valkey, orders, runner(), {
    workerId: WORKER,
    onError: (error) => {
      throw error;
    },
    describe: async () => ({ containment: 'group', guardian: true, running: 0 }),
  });
  await life.workers.register(WORKER, { pools: 'default' }, 60_000);
});

/** A worker's agents without their processes. */
function runner(): AgentRunner {
  return {
    ended$: new Subject(),
    slotsWhere: (matches: (slot: AgentSlot) => boolean) => slots.filter(matches),
    stopWhere: (matches: (slot: AgentSlot) => boolean) => {
      const hit = slots.filter(matches);
      stopped.push(...hit.map(({ agentId }) => agentId));
      return hit.length;
    },
  } as unknown as AgentRunner;
}

function slot(executionId: string, index: number): AgentSlot {
  const agentId = `agt_${executionId.slice(4)}-${index}-1`;
  const made = new AgentSlot({ agentId, executionId, nodeId: `n${index}`, attempt: 1 }, WORKER);
  const fence = { agentId, owner: WORKER, epoch: 1 };
  made.granted({ fence, claimedAt: 1, born: 1, pool: 'default', labels: {}, node: {} });
  return made;
}

async function place(executionId: string): Promise<Order> {
  const scope = { type: 'execution', executionId } as const;
  const asked = {
    id: `ord_${ulid()}`,
    kind: 'kill',
    scope,
    mode: 'graceful',
    reason: 'killswitch',
    by: 'me',
  } as const;
  return (await orders.place(asked)).order;
}

const target = (executionId: string, index: number, workerId: string): TargetReceipt => ({
  agentId: `agt_${executionId.slice(4)}-${index}-1`,
  executionId,
  nodeId: `n${index}`,
  workerId,
  outcome: 'pending',
});

/** A heartbeat and all it brings about for orders. */
async function beat(): Promise<void> {
  const answer: Heartbeat = await life.workers.heartbeat(WORKER, 60_000, slots.length);
  await responder.noticeHead(answer, signal);
}

/** Commands sent to the server while `work` is done, by name. */
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
    // Once they are reported there is nothing left to look at.
    for (const one of targets.filter(({ workerId }) => workerId === WORKER))
      await orders.report(order.id, { ...one, outcome: 'killed' });
    expect((await commandsOf(beat)).length).toBeLessThanOrEqual(2);
    expect((await life.workers.heartbeat(WORKER, 60_000, 0)).targets).toBe(0);
  }, 120_000);
});
