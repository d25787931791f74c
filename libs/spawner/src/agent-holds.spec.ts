import { BelayError, type AgentJob, type ExitReport, type StopReport } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { createExecution, node, spec, stopReport, useLife } from '../../../test/support/life';
import { eventually } from '../../../test/support/wait';
import { AgentRunner } from './agent-runner';
import { AgentSlots } from './agent-slots';
import { AgentSlot, type StopCause } from './agent-slot';
import { PausableTimer } from './pausable-timer';
import type { OutcomeReplay } from './outcome-replay';
import type { AgentProcess, ProcessHost } from './process';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const KILL: StopCause = { reason: 'killswitch', mode: 'graceful', by: 'ann', endsAs: 'killed' };
const ALL = (): boolean => true;

let life: LifecycleService;
let slots: AgentSlots;
let runner: AgentRunner;
let job: AgentJob;
let ran: Promise<unknown>;
/** The tree's answers to each freeze; without an answer it freezes at once. */
let freezes: (() => Promise<void>)[];
let end: () => void;
useLife((rig) => ({ life } = rig));
beforeEach(async () => {
  const id = await createExecution(life, spec([node('a')]));
  job = (await life.executions.advance(id)).entries[0] as AgentJob;
  freezes = [];
  const process = treeOf();
  const ends: Pick<OutcomeReplay, 'store'> = {
    store: async (fence, outcome) => life.agents.finish(fence, outcome),
  };
  slots = new AgentSlots(life, { workerId: WORKER, graceMs: 100 });
  runner = new AgentRunner(
    life,
    { spawn: async () => process } as unknown as ProcessHost,
    slots,
    { ends },
    {
      workerId: WORKER,
      workDir: '/',
      logDir: '/',
      graceMs: 100,
    },
  );
  ran = runner.run(job);
  await eventually(async () => (await record()).state === 'running', 'its start');
});
afterEach(async () => {
  jest.restoreAllMocks();
  end();
  await ran;
});

const record = async () => life.agents.get(job.agentId);

/** A process that runs until the test ends it. */
function treeOf(): AgentProcess {
  const report: StopReport = stopReport();
  const ended = new Promise<ExitReport>((resolve) => {
    end = () => resolve({ exitCode: 0, signal: null, leftovers: 0, report });
  });
  return {
    agentId: job.agentId,
    identity: { pid: 1, startTime: '1', bootId: 'b' },
    containment: 'marks',
    unappliedLimits: [],
    badLines: 0,
    lostBytes: 0,
    ended,
    confirmed: ended.then((exit) => exit.report),
    stop: async () => ended,
    freeze: async () => freezes.shift()?.(),
    thaw: async () => undefined,
    processes: () => [],
  };
}

const freeze = async (hold: string, orderId?: string) =>
  (await Promise.all(slots.freezeWhere(ALL, hold, orderId)))[0];
const thaw = async (hold: string) => (await Promise.all(slots.thawWhere(ALL, hold)))[0];
const tooLate = async (): Promise<void> => {
  throw new BelayError('TIMEOUT', 'not every process was seen stopped');
};

describe('R22 R51 a tree is called still only where it was seen still', () => {
  it('not while a stop of it is under way: it has its grace, and runs', async () => {
    slots.stopWhere(ALL, { ...KILL, graceMs: 600_000 });
    expect(await freeze('hold', 'ord_1')).toMatchObject({
      frozen: false,
      error: { code: 'INVALID_TRANSITION' },
    });
    expect((await record()).frozen).toBeUndefined();
  });

  it('not when a hold is taken off, while the freeze of another hold has failed', async () => {
    freezes.push(tooLate, tooLate);
    await freeze('one', 'ord_1');
    await freeze('two', 'ord_2');
    expect(await thaw('two')).toMatchObject({ frozen: false });
    expect((await record()).frozen).toBeUndefined();
  });

  it('and its record names the orders that saw it so, until it goes on', async () => {
    await freeze('one', 'ord_1');
    await freeze('two', 'ord_2');
    await freeze('two', 'ord_2');
    expect(await record()).toMatchObject({ frozen: true, frozenBy: ['ord_1', 'ord_2'] });
    expect(await thaw('two')).toMatchObject({ frozen: true });
    expect(await record()).toMatchObject({ frozen: true });
    await thaw('one');
    expect(await record()).not.toMatchObject({ frozen: true });
    expect((await record()).frozenBy).toBeUndefined();
  });

  it('and its record says at last that it goes on, although the call that said that it stands still is answered later', async () => {
    const mark = life.agents.markFrozen.bind(life.agents);
    let answer: () => void = () => undefined;
    const late = new Promise<void>((resolve) => (answer = resolve));
    jest.spyOn(life.agents, 'markFrozen').mockImplementationOnce(async (...asked) => {
      await late;
      return mark(...asked);
    });
    const frozen = freeze('one', 'ord_1');
    const thawed = thaw('one');
    answer();
    await Promise.all([frozen, thawed]);
    expect((await record()).frozen).toBeUndefined();
  });

  it('and its record says that it goes on, although the server was away at the thaw', async () => {
    await freeze('one', 'ord_1');
    const away = new BelayError('OUTCOME_UNKNOWN', 'the server is away');
    jest.spyOn(life.agents, 'markFrozen').mockRejectedValueOnce(away);
    expect((await thaw('one'))?.error).toBeUndefined();
    expect((await record()).frozen).toBeUndefined();
  });
});

describe('R22 the timeout of a node', () => {
  it('stands still where a worker reads a thaw and a later freeze in one turn', async () => {
    const slot = new AgentSlot(job, WORKER);
    const process = { freeze: async () => undefined, thaw: async () => undefined };
    let hasPassed = false;
    await slot.maySpawn();
    slot.hasProcess(process as unknown as AgentProcess, new PausableTimer(50, () => (hasPassed = true)));
    await slot.freeze('one');
    await Promise.all([slot.thaw('one'), slot.freeze('one')]);
    expect(slot.isStill).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(hasPassed).toBe(false);
    slot.hasEnded();
  });
});
