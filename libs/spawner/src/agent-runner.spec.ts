import {
  OutcomeUnknownError,
  type AgentJob,
  type ExitReport,
  type Order,
  type StopReport,
} from '#libs/contracts';
import { LifecycleService, type Fence } from '#libs/lifecycle';
import { AgentRunner } from './agent-runner';
import { AgentSlots } from './agent-slots';
import type { StopCause } from './agent-slot';
import type { OutcomeReplay } from './outcome-replay';
import type { AgentProcess, ProcessHost, SpawnRequest, StopOptions } from './process';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';

type StoredEnd = Parameters<OutcomeReplay['store']>;
const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

let life: LifecycleService;
let job: AgentJob;
let spawned: number;
let slots: AgentSlots;
let runner: AgentRunner;
let leaseLeftMs: number;
let wasSilent: boolean;
/** Takes the place of a process: the host's answer to a request. */
let spawn: (request: SpawnRequest) => Promise<AgentProcess>;

useLife((rig) => ({ life } = rig));
beforeEach(async () => {
  job = await nextJob();
  spawned = 0;
  leaseLeftMs = 10_000;
  wasSilent = false;
  spawn = async () => {
    throw new Error('nothing can be started here');
  };
  const host = {
    spawn: async (request: SpawnRequest) => {
      spawned++;
      return spawn(request);
    },
  } as unknown as ProcessHost;
  slots = new AgentSlots(life, { workerId: WORKER, graceMs: 100 });
  const ports = {
    ends: { store: async (...[fence, outcome]: StoredEnd) => life.agents.finish(fence, outcome) },
    lease: {
      get leftMs() {
        return leaseLeftMs;
      },
      get wasSilent() {
        return wasSilent;
      },
    },
  };
  runner = new AgentRunner(life, host, slots, ports, {
    workerId: WORKER,
    workDir: '/',
    logDir: '/',
    graceMs: 100,
  });
});
afterEach(() => jest.restoreAllMocks());

async function nextJob(over: Parameters<typeof node>[1] = {}): Promise<AgentJob> {
  const id = await createExecution(life, spec([node('a', over)]));
  return (await life.executions.advance(id)).entries[0] as AgentJob;
}

/** Runs until the test ends it. */
class FakeProcess implements AgentProcess {
  readonly agentId = job.agentId;
  readonly identity = { pid: 1, startTime: '1', bootId: 'b' };
  readonly containment = 'marks';
  readonly unappliedLimits = [];
  readonly badLines = 0;
  readonly lostBytes = 0;
  readonly stops: StopOptions[] = [];
  readonly ended: Promise<ExitReport>;
  readonly confirmed: Promise<StopReport>;
  private resolve: (exit: ExitReport) => void = () => undefined;

  constructor() {
    this.ended = new Promise((resolve) => (this.resolve = resolve));
    this.confirmed = this.ended.then(({ report }) => report);
  }

  end(over: Partial<StopReport>, exit: Partial<ExitReport> = { exitCode: null, signal: 'SIGTERM' }): void {
    const report: StopReport = {
      containment: 'marks',
      proved: true,
      processes: [],
      signals: [],
      evidence: [{ kind: 'exit', afterMs: 1 }],
      survivors: [],
      escalated: false,
      ...over,
    };
    this.resolve({ exitCode: null, signal: null, leftovers: 0, report, ...exit });
  }

  async stop(options: StopOptions): Promise<ExitReport> {
    this.stops.push(options);
    return this.ended;
  }

  async freeze(): Promise<void> {}
  async thaw(): Promise<void> {}
  processes(): [] {
    return [];
  }
}

/** Grants the claim and loses its answer; `meanwhile` happens before the worker asks again. */
function loseAnswer(meanwhile: (fence: Fence) => Promise<unknown>): void {
  const claim = life.agents.claim.bind(life.agents);
  jest.spyOn(life.agents, 'claim').mockImplementationOnce(async (...args) => {
    const granted = await claim(...args);
    if (!granted.claimed) throw new Error(granted.why);
    await meanwhile(granted.fence);
    throw new OutcomeUnknownError('script claimNode', new Error('read ECONNRESET'));
  });
}

describe('a claim whose answer is lost', () => {
  it('is carried out once when it is asked for again (R43)', async () => {
    loseAnswer(async () => undefined);
    await runner.run(job);
    expect(spawned).toBe(1);
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'failed' });
  });

  it('R51 and whose lease ran out meanwhile is proved to have started nothing', async () => {
    loseAnswer(async (fence) => {
      await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true });
      expect((await life.agents.unproved()).map((agent) => agent.id)).toEqual([job.agentId]);
    });
    await runner.run(job);
    expect(spawned).toBe(0);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      report: { proved: true, evidence: [{ kind: 'not-started' }] },
    });
    expect(await life.agents.unproved()).toEqual([]);
  });

  it('starts nothing when it was stopped meanwhile', async () => {
    loseAnswer(async () =>
      slots.stopWhere(() => true, {
        reason: 'worker_lost',
        mode: 'immediate',
        by: 'belay',
        endsAs: 'failed',
      }),
    );
    await runner.run(job);
    expect(spawned).toBe(0);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      report: { evidence: [{ kind: 'not-started' }] },
    });
  });
});

describe('a claim that a failover lost and the same worker is granted again', () => {
  /** Remembers everything that is stored now. The result restores it in place of everything stored later. */
  async function remember(): Promise<() => Promise<void>> {
    const { redis } = life.valkey;
    const stored = await Promise.all(
      (await redis.keys('*')).map(async (key) => [key, await redis.dumpBuffer(key)] as const),
    );
    return async () => {
      await redis.flushall();
      for (const [key, value] of stored) await redis.restore(key, 0, value);
    };
  }

  /** The first copy runs and its claim is lost. Resolves when the second grant has told the first copy to end. */
  async function grantTwice(lose: () => Promise<unknown>) {
    const first = new FakeProcess();
    spawn = async () => first;
    const ran = runner.run(job);
    const isRunning = async () => (await life.agents.get(job.agentId)).state === 'running';
    await eventually(async () => isRunning().catch(() => false), 'the first copy', 10_000);
    await lose();
    const second = new FakeProcess();
    spawn = async () => second;
    const again = runner.run(job);
    await eventually(() => first.stops.length > 0, 'the end of the first copy', 10_000);
    return { first, second, both: Promise.all([ran, again]) };
  }

  it('R26 starts the second copy once the first is dead', async () => {
    const restore = await remember();
    const { first, second, both } = await grantTwice(async () => {
      await restore();
      // The number of the lost claim is not given again.
      await life.valkey.redis.hincrby(life.valkey.keys.execution(job.executionId), 'fence', 1);
    });
    expect(first.stops).toEqual([{ mode: 'immediate', graceMs: 0 }]);
    expect(spawned).toBe(1);
    first.end({ signals: [{ signal: 'SIGKILL', to: 'group', afterMs: 1 }] });
    await eventually(() => spawned === 2, 'the second copy', 10_000);
    second.end({}, { exitCode: 0, signal: null });
    await both;
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'completed', epoch: 2 });
  });

  it('R26 starts no second copy where the end of the first is stored as the end of the attempt', async () => {
    const { first, both } = await grantTwice(await remember());
    first.end({ signals: [{ signal: 'SIGKILL', to: 'group', afterMs: 1 }] });
    await both;
    expect(spawned).toBe(1);
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'failed', reason: 'worker_lost' });
  });
});

describe('attempts that are claimed and not started yet', () => {
  it('R27 is not handed to the host once the lease may have run out, and ends as lost with its worker', async () => {
    loseAnswer(async () => (leaseLeftMs = 0));
    await runner.run(job);
    expect(spawned).toBe(0);
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      error: { code: 'FENCED' },
      report: { proved: true, evidence: [{ kind: 'not-started' }] },
    });
  });

  it('R8 is stopped as soon as it runs when a stop of its execution began during the start', async () => {
    const process = new FakeProcess();
    spawn = async () => {
      await life.executions.stop(job.executionId, { reason: 'user_abort' });
      return process;
    };
    const ran = runner.run(job);
    await eventually(() => process.stops.length > 0, 'the stop', 10_000);
    expect(process.stops).toEqual([{ mode: 'graceful', graceMs: 100 }]);
    process.end({ signals: [{ signal: 'SIGTERM', to: 'group', afterMs: 1 }] });
    await ran;
    expect(await life.agents.get(job.agentId)).toMatchObject({ state: 'killed', reason: 'user_abort' });
  });

  it('R27 is stopped at once when its start is refused, since another worker has the attempt', async () => {
    const process = new FakeProcess();
    spawn = async ({ env }) => {
      const fence = { agentId: job.agentId, owner: WORKER, epoch: Number(env['BELAY_EPOCH']) };
      await life.agents.finish(fence, { state: 'failed', reason: 'worker_lost', lost: true });
      return process;
    };
    const ran = runner.run(job);
    await eventually(() => process.stops.length > 0, 'the stop', 10_000);
    expect(process.stops).toEqual([{ mode: 'immediate', graceMs: 0 }]);
    process.end({ signals: [{ signal: 'SIGKILL', to: 'group', afterMs: 1 }] });
    await ran;
    // The stored end does not change; the worker's observation proves it.
    expect(await life.agents.get(job.agentId)).toMatchObject({
      reason: 'worker_lost',
      report: { proved: true },
    });
    expect(await life.agents.unproved()).toEqual([]);
  });
});

describe('how an attempt ended', () => {
  const KILL: StopCause = {
    reason: 'killswitch',
    mode: 'graceful',
    by: 'ann',
    endsAs: 'killed',
  };
  const TERM = [{ signal: 'SIGTERM', to: 'group', afterMs: 1 }] as const;

  /** The record of an attempt whose process ended like that; `stop`: a stop was asked for before. */
  async function endedBy(...[report, exit, stop]: [...Parameters<FakeProcess['end']>, StopCause?]) {
    const process = new FakeProcess();
    spawn = async () => process;
    const ran = runner.run(job);
    await eventually(() => slots.slotsWhere((slot) => slot.process !== undefined).length > 0, 'its start');
    if (stop !== undefined) slots.stopWhere(() => true, stop);
    process.end(report, exit);
    await ran;
    return life.agents.get(job.agentId);
  }

  it('R19 a long grace of an earlier order does not delay a later one, and a drain does not cut it short', async () => {
    const process = new FakeProcess();
    spawn = async () => process;
    const ran = runner.run(job);
    await eventually(() => slots.slotsWhere((slot) => slot.process !== undefined).length > 0, 'its start');
    const order = { id: 'ord_1', kind: 'kill', scope: { type: 'all' } } as Order;
    const DRAIN = { reason: 'server_shutdown', mode: 'graceful', by: 'belay', endsAs: 'failed' } as const;
    for (const cause of [{ ...KILL, order, graceMs: 600_000 }, DRAIN, { ...KILL, order }])
      slots.stopWhere(() => true, cause);
    expect(process.stops.map(({ graceMs }) => graceMs)).toEqual([600_000, 600_000, 100]);
    process.end({ signals: TERM });
    await ran;
  });

  it.each([
    ['R9 exit code 0 completes it', {}, { exitCode: 0 }, undefined, { state: 'completed', exitCode: 0 }],
    [
      'R9 another exit code fails it',
      {},
      { exitCode: 3 },
      undefined,
      { state: 'failed', reason: 'error', exitCode: 3, error: { code: 'EXIT' } },
    ],
    [
      'R7 an end before the first signal of a stop is its own',
      {},
      { exitCode: 0 },
      KILL,
      { state: 'completed', exitCode: 0 },
    ],
    [
      'R7 an end after the first signal of a stop is the stop’s, whatever the exit code',
      { signals: TERM },
      { exitCode: 0 },
      KILL,
      { state: 'killed', reason: 'killswitch', actor: 'ann' },
    ],
    [
      'a SIGKILL from nowhere is an end of its own',
      {},
      { signal: 'SIGKILL' },
      undefined,
      { state: 'failed', reason: 'error', signal: 'SIGKILL' },
    ],
  ])('%s', async (_what, report, exit, stop, record) => {
    expect(await endedBy(report, exit, stop)).toMatchObject(record);
  });

  it('R27 a SIGKILL from nowhere after a silence of the worker is the fence of its guardian', async () => {
    wasSilent = true;
    expect(await endedBy({}, { signal: 'SIGKILL' })).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      error: { code: 'FENCED' },
    });
  });

  it('R39 a node that runs longer than its timeout is stopped and failed with TIMEOUT', async () => {
    job = await nextJob({ timeoutMs: 20 });
    const process = new FakeProcess();
    spawn = async () => process;
    const ran = runner.run(job);
    await eventually(() => process.stops.length > 0, 'the timeout', 10_000).finally(() =>
      process.end({ signals: TERM }),
    );
    await ran;
    expect(await life.agents.get(job.agentId)).toMatchObject({
      state: 'failed',
      reason: 'timeout',
      error: { code: 'TIMEOUT' },
    });
  });
});

describe('R43 work in flight', () => {
  it('counts by identity, not by id: a job brought twice is two until each is over', async () => {
    const busy: number[] = [];
    const claim = life.agents.claim.bind(life.agents);
    let first: Promise<unknown> = Promise.resolve();
    let claims = 0;
    jest.spyOn(life.agents, 'claim').mockImplementation(async (...args) => {
      busy.push(slots.busy);
      // The second claim lasts as long as the first, and a call of the server longer.
      if (++claims === 2) await first;
      const answer = await claim(...args);
      busy.push(slots.busy);
      return answer;
    });
    first = runner.run(job);
    const second = runner.run(job);
    let idle = false;
    const whenIdle = slots.whenIdle().then(() => (idle = true));
    await first;
    expect([Math.max(...busy), slots.busy, idle]).toEqual([2, 1, false]);
    await Promise.all([first, second, whenIdle]);
    expect([slots.busy, spawned]).toEqual([0, 1]);
  });
});

describe('a job that this worker cannot take', () => {
  it('R42 is left to another worker when this one drains before its claim was answered', async () => {
    jest.spyOn(life.agents, 'claim').mockImplementation(async () => {
      slots.stopWhere(() => true, {
        reason: 'server_shutdown',
        mode: 'graceful',
        by: 'belay',
        endsAs: 'failed',
      });
      throw new OutcomeUnknownError('script claimNode', new Error('read ECONNRESET'));
    });
    expect(await runner.run(job)).toBe('refused');
  });

  it('is over when another worker has the node', async () => {
    await life.agents.claim(job, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZY', 'token');
    expect(await runner.run(job)).toBe('done');
  });

  // Last in the file, because the ban outlives the test.
  it('R26 is left to another worker once this one was declared lost', async () => {
    await life.agents.banOwner(WORKER);
    expect(await runner.run(job)).toBe('refused');
    expect(spawned).toBe(0);
  });
});
