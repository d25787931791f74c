import { OutcomeUnknownError, type AgentJob } from '#libs/contracts';
import { LifecycleService, type Fence } from '#libs/lifecycle';
import { AgentRunner } from './agent-runner';
import type { ProcessHost } from './process';
import { createExecution, node, spec, useLife } from '../../../test/support/life';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

let life: LifecycleService;
let job: AgentJob;
let spawned: number;
let runner: AgentRunner;

useLife((rig) => ({ life } = rig));
beforeEach(async () => {
  const id = await createExecution(life, spec([node('a')]));
  job = (await life.executions.advance(id)).entries[0] as AgentJob;
  spawned = 0;
  const host = {
    spawn: async () => {
      spawned++;
      throw new Error('nothing can be started here');
    },
  } as unknown as ProcessHost;
  runner = new AgentRunner(life, host, {
    workerId: WORKER,
    workDir: '/',
    logDir: '/',
    graceMs: 100,
    finish: async (...[fence, outcome]) => life.agents.finish(fence, outcome),
  });
});
afterEach(() => jest.restoreAllMocks());

/** The claim is granted and its answer is lost; `meanwhile` happens before it is asked for again. */
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
      runner.stopWhere(() => true, {
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

describe('R43 work in flight', () => {
  it('counts by what it is, not by its id: a job brought twice is two until each is over', async () => {
    const busy: number[] = [];
    const claim = life.agents.claim.bind(life.agents);
    jest.spyOn(life.agents, 'claim').mockImplementation(async (...args) => {
      busy.push(runner.busy);
      const answer = await claim(...args);
      busy.push(runner.busy);
      return answer;
    });
    const first = runner.run(job);
    const second = runner.run(job);
    let idle = false;
    const whenIdle = runner.whenIdle().then(() => (idle = true));
    await Promise.race([first, second]);
    expect([Math.max(...busy), runner.busy, idle]).toEqual([2, 1, false]);
    await Promise.all([first, second, whenIdle]);
    expect([runner.busy, spawned]).toEqual([0, 1]);
  });
});

describe('a job that this worker cannot take', () => {
  it('R42 is left to another worker when this one drains before its claim was answered', async () => {
    jest.spyOn(life.agents, 'claim').mockImplementation(async () => {
      runner.stopWhere(() => true, {
        reason: 'server_shutdown',
        mode: 'graceful',
        by: 'belay',
        endsAs: 'failed',
      });
      throw new OutcomeUnknownError('script claimNode', new Error('read ECONNRESET'));
    });
    expect(await runner.run(job)).toBe(false);
  });

  it('is done with when somebody else has the node', async () => {
    await life.agents.claim(job, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZY', 'token');
    expect(await runner.run(job)).toBe(true);
  });

  // The last of the file: the ban outlives it.
  it('R26 is left to another worker once this one was declared lost', async () => {
    await life.agents.banOwner(WORKER);
    expect(await runner.run(job)).toBe(false);
    expect(spawned).toBe(0);
  });
});
