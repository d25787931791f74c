import { BelayError, OutcomeUnknownError, type AgentJob, type Order } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { AgentRunner } from './agent-runner';
import type { StopCause } from './agent-slot';
import { AgentSlots } from './agent-slots';
import type { OutcomeReplay } from './outcome-replay';
import type { ProcessHost } from './process';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const KILL: StopCause = {
  reason: 'killswitch',
  mode: 'graceful',
  by: 'ann',
  endsAs: 'killed',
  order: { id: 'ord_1', kind: 'kill', scope: { type: 'all' }, by: 'ann' } as Order,
};

let life: LifecycleService;
let job: AgentJob;
let slots: AgentSlots;
let runner: AgentRunner;
let spawned: number;
let leaseLeftMs: number;
let closing: AbortController;
/** The worker's question whether an open order covers the attempt. */
let ask: jest.Mock<Promise<void>, []>;

useLife((rig) => ({ life } = rig));
beforeEach(async () => {
  const id = await createExecution(life, spec([node('a')]));
  job = (await life.executions.advance(id)).entries[0] as AgentJob;
  spawned = 0;
  leaseLeftMs = 10_000;
  closing = new AbortController();
  ask = jest.fn(async () => undefined);
  const spawn = async (): Promise<never> => {
    spawned++;
    throw new BelayError('SPAWN_FAILED', 'Nothing can be started here.');
  };
  slots = new AgentSlots(life, { workerId: WORKER, graceMs: 100, closing: closing.signal });
  const ends: Pick<OutcomeReplay, 'store'> = {
    store: async (fence, outcome) => life.agents.finish(fence, outcome),
  };
  const lease = {
    get leftMs() {
      return leaseLeftMs;
    },
    wasSilent: false,
  };
  const ports = { ends, lease, gate: { beforeSpawn: ask } };
  runner = new AgentRunner(life, { spawn } as unknown as ProcessHost, slots, ports, {
    workerId: WORKER,
    workDir: '/',
    logDir: '/',
    graceMs: 100,
    closing: closing.signal,
  });
});

const unanswered = async (): Promise<never> => {
  throw new OutcomeUnknownError('script addTargets', new Error('read ECONNRESET'));
};

const NOT_STARTED = { proved: true, evidence: [{ kind: 'not-started' }] };

describe('R52 an attempt that an open order may cover', () => {
  it('is not started while the worker has no answer, and is killed unstarted when the order takes it', async () => {
    ask.mockImplementationOnce(unanswered).mockImplementationOnce(async () => {
      slots.stopWhere(() => true, KILL);
    });
    await runner.run(job);
    expect([ask.mock.calls.length, spawned]).toEqual([2, 0]);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'killed',
      orderId: 'ord_1',
      report: NOT_STARTED,
    });
  });

  it('is started once the answer is that no order takes it', async () => {
    ask.mockImplementationOnce(async () => {
      expect(spawned).toBe(0);
      return unanswered();
    });
    await runner.run(job);
    expect([ask.mock.calls.length, spawned]).toEqual([2, 1]);
  });

  it('is asked about again after a freeze: an order that came during the freeze may have no answer yet', async () => {
    let isAnswered = false;
    ask
      .mockImplementationOnce(async () => {
        await Promise.all(slots.freezeWhere(() => true, 'hold'));
        isAnswered = true;
      })
      .mockImplementationOnce(unanswered)
      .mockImplementationOnce(async () => {
        slots.stopWhere(() => true, KILL);
      });
    const ran = runner.run(job);
    // A thaw before the answer would leave nothing to ask about again.
    await eventually(() => isAnswered, 'the answer during the freeze');
    await Promise.all(slots.thawWhere(() => true, 'hold'));
    await ran;
    expect([ask.mock.calls.length, spawned]).toEqual([3, 0]);
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'killed', orderId: 'ord_1' });
  });

  it('ends when it is stopped during a freeze, although the freeze goes on', async () => {
    ask.mockImplementationOnce(async () => {
      await Promise.all(slots.freezeWhere(() => true, 'hold'));
    });
    const ran = runner.run(job);
    await eventually(() => slots.slotsWhere(({ isStill }) => isStill).length > 0, 'the freeze');
    slots.stopWhere(() => true, KILL);
    await ran;
    expect([ask.mock.calls.length, spawned]).toEqual([1, 0]);
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'killed', report: NOT_STARTED });
  });

  it('R27 is not started when there is no answer before the lease may be over', async () => {
    ask.mockImplementation(async () => {
      if (ask.mock.calls.length === 3) leaseLeftMs = 0;
      return unanswered();
    });
    await runner.run(job);
    expect([ask.mock.calls.length, spawned]).toEqual([3, 0]);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      error: { code: 'FENCED' },
      report: NOT_STARTED,
    });
  });

  it('is not started when its worker closes before there is an answer', async () => {
    ask.mockImplementation(async () => {
      closing.abort();
      return unanswered();
    });
    await runner.run(job);
    expect([ask.mock.calls.length, spawned]).toEqual([1, 0]);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      reason: 'server_shutdown',
      report: NOT_STARTED,
    });
  });

  it('R31 fails unstarted, and is not killed, when the record of the order cannot be read', async () => {
    ask.mockRejectedValue(new BelayError('CORRUPT_RECORD', 'The order ord_1 cannot be read.'));
    await runner.run(job);
    expect([ask.mock.calls.length, spawned]).toEqual([1, 0]);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      reason: 'error',
      error: {
        code: 'ORDER_UNREADABLE',
        message: 'It was not started: The order ord_1 cannot be read.',
      },
      report: NOT_STARTED,
    });
  });

  it('R31 is killed when one order takes it, although the record of another cannot be read', async () => {
    ask.mockImplementation(async () => {
      slots.stopWhere(() => true, KILL);
      throw new BelayError('CORRUPT_RECORD', 'The order ord_2 cannot be read.');
    });
    await runner.run(job);
    expect(spawned).toBe(0);
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'killed', orderId: 'ord_1' });
  });
});
