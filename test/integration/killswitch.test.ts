import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '#libs/client';
import type { Latch, Receipt } from '#libs/contracts';
import { LifecycleService, type Fence } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { ended as executionEnded, running as agentsRunning } from '../support/executions';
import { eventually, processesWith, startFleet, type Fleet, type Member } from '../support/fleet';

const sh = (script: string) => ({ command: [script], shell: true });
const SLEEP = sh('echo ready; exec sleep 600');

/** A step that is not seen within this has failed, and is named. Milliseconds. */
const STEP_MS = 30_000;

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    workers: 2,
    env: {
      BELAY_POOLS: 'default,gpu',
      BELAY_WORKER_CONCURRENCY: '16',
      BELAY_GRACE_MS: '300',
      BELAY_HEARTBEAT_MS: '300',
    },
  });
});
afterAll(async () => fleet.stop());

/** No test may keep the next one from starting, and its kill has ended: an open kill reaches the agents of the next test. */
afterEach(async () => {
  for (const latch of (await fleet.client.latches()).items)
    await fleet.client.releaseLatch(latch.id, 'end of test');
  const { orderId } = await fleet.client.kill({ scope: { type: 'all' }, latch: false, mode: 'immediate' });
  await complete(orderId);
});

async function complete(orderId: string): Promise<Receipt> {
  return eventually(
    async () => {
      const receipt = await fleet.client.receipt(orderId);
      return receipt.complete ? receipt : undefined;
    },
    `the receipt of ${orderId}`,
    STEP_MS,
    async () => JSON.stringify(await fleet.client.receipt(orderId), null, 1),
  );
}

async function submit(nodes: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes, ...more });
  return execution.id;
}

const running = async (id: string, count: number) =>
  agentsRunning(fleet.client, id, count, STEP_MS, fleet.life);
const ended = async (id: string) => executionEnded(fleet.client, id);
const latchOf = (receipt: Receipt): Latch => receipt.latch as Latch;

describe('latches', () => {
  it('R53 1,000 claims race one latch: nothing starts after it, and all of it starts once it is released', async () => {
    const id = await submit(
      Array.from({ length: 1_000 }, (_, i) => ({ id: `n${i}`, run: { command: ['true'] } })),
    );
    // Midway, while both workers claim as fast as they can.
    await eventually(
      async () => ((await fleet.client.execution(id)).nodes.completed > 100 ? true : undefined),
      'work under way',
    );
    const latch = await fleet.client.engageLatch({ scope: { type: 'all' }, note: 'hold' });
    const claimed = async () => (await fleet.life.agents.list({ executionId: id, limit: 2_000 })).length;
    const before = await claimed();
    expect(before).toBeLessThan(1_000);
    // Agents that were claimed before may end; no other may begin, over several heartbeats and sweeps.
    await eventually(
      async () => ((await fleet.client.execution(id)).live === 0 ? true : undefined),
      'claimed agents ended',
    );
    const from = (await fleet.client.workers()).items[0]?.lastHeartbeatAt ?? 0;
    await eventually(
      async () =>
        ((await fleet.client.workers()).items[0]?.lastHeartbeatAt ?? 0) - from > 2_500 ? true : undefined,
      'several heartbeats',
    );
    expect(await claimed()).toBe(before);
    expect((await fleet.client.execution(id)).state).toBe('running');
    await fleet.client.releaseLatch(latch.id, 'go on');
    expect(await ended(id)).toMatchObject({ state: 'completed', nodes: { completed: 1_000 } });
    // Each attempt was claimed once, latch or not.
    expect(await claimed()).toBe(1_000);
  });

  it('R53 claims sent from many connections after the latch is answered are all refused', async () => {
    const { execution } = await fleet.client.createExecution({
      name: 'test',
      nodes: Array.from({ length: 500 }, (_, i) => ({
        id: `n${i}`,
        pool: 'nobody',
        run: { command: ['true'] },
      })),
    });
    const jobs = Array.from({ length: 500 }, (_, i) => ({
      agentId: `agt_${execution.id.slice(4)}-${i}-1`,
      executionId: execution.id,
      nodeId: `n${i}`,
      attempt: 1,
    }));
    await eventually(
      async () => ((await fleet.client.execution(execution.id)).nodes.ready === 500 ? true : undefined),
      'all ready',
    );
    const connections = await Promise.all(
      Array.from({ length: 8 }, async () =>
        new Valkey({ url: fleet.server.url, keyPrefix: 'belay', shards: 2 }).open(),
      ),
    );
    let engaged = false;
    const late: boolean[] = [];
    const early: boolean[] = [];
    const fences: Fence[] = [];
    const engaging = (async () => {
      // During the first claims, not before or after them.
      await fleet.client.engageLatch({ scope: { type: 'pool', pool: 'nobody' } });
      engaged = true;
    })();
    // Each connection has a claim under way all the time, also at the moment of the latch.
    await Promise.all(
      connections.map(async (valkey, i) => {
        const { agents } = new LifecycleService(valkey, { retentionMs: 60_000 });
        for (const job of jobs.filter((_, at) => at % connections.length === i)) {
          const isLate = engaged;
          const claim = await agents.claim(job, 'wrk_racer', job.agentId);
          (isLate ? late : early).push(claim.claimed);
          if (claim.claimed) fences.push(claim.fence);
          else expect(claim).toMatchObject({ why: 'LATCHED', latch: { kind: 'latch', by: 'admin' } });
        }
        valkey.close();
      }),
    );
    await engaging;
    expect(early).toContain(true);
    expect(late.length).toBeGreaterThan(50);
    expect(late).not.toContain(true);
    // No worker runs these, so the test stores their ends.
    for (const fence of fences) await fleet.life.agents.finish(fence, { state: 'failed', reason: 'error' });
  });

  it('a submit in its scope answers 423 and names it; start: false creates; the start waits for the release', async () => {
    const latch = await fleet.client.engageLatch({
      scope: { type: 'selector', selector: 'team=data,env!=prod' },
      note: 'bad model',
    });
    const labels = { team: 'data' };
    const spec = { name: 'test', labels, nodes: [{ id: 'a', run: { command: ['true'] } }] };
    const refusal = {
      code: 'LATCHED',
      details: { status: 423, latchId: latch.id },
      message: expect.stringContaining(`belay release ${latch.id}`) as string,
    };
    await expect(fleet.client.createExecution(spec)).rejects.toMatchObject(refusal);
    const { execution } = await fleet.client.createExecution(spec, { start: false });
    await expect(fleet.client.start(execution.id)).rejects.toMatchObject(refusal);
    // Outside of the scope everything goes on.
    expect(await ended(await submit(spec.nodes, { labels: { team: 'data', env: 'prod' } }))).toMatchObject({
      state: 'completed',
    });
    expect(await fleet.client.releaseLatch(latch.id, 'mended')).toMatchObject({
      already: false,
      latch: { releaseNote: 'mended' },
    });
    expect(await fleet.client.releaseLatch(latch.id, 'again')).toMatchObject({
      already: true,
      latch: { releaseNote: 'mended' },
    });
    await fleet.client.start(execution.id);
    expect(await ended(execution.id)).toMatchObject({ state: 'completed' });
  });

  it('a node in its scope waits while the rest of its execution goes on; a release lets it go on', async () => {
    const latch = await fleet.client.engageLatch({ scope: { type: 'pool', pool: 'gpu' } });
    const id = await submit([
      { id: 'cpu', run: { command: ['true'] } },
      { id: 'gpu', pool: 'gpu', run: { command: ['true'] } },
    ]);
    await eventually(
      async () => ((await fleet.client.execution(id)).nodes.completed === 1 ? true : undefined),
      'cpu done',
    );
    expect((await fleet.client.node(id, 'gpu')).state).toBe('ready');
    await fleet.client.releaseLatch(latch.id, 'go');
    expect(await ended(id)).toMatchObject({ state: 'completed' });
  });

  it('R50 a kill of a pool or of labels reaches the agents in it and no others, and its latch is in force', async () => {
    const id = await submit(
      [
        { id: 'cpu', run: SLEEP },
        { id: 'gpu', pool: 'gpu', run: SLEEP, labels: { model: 'large' } },
        { id: 'small', pool: 'gpu', run: SLEEP, labels: { model: 'small' } },
      ],
      { onFailure: 'continue', labels: { team: 'ml' } },
    );
    await running(id, 3);
    const scope = { type: 'selector', selector: 'team=ml,model in (large,huge)' } as const;
    expect((await fleet.client.planKill({ scope })).targets.map(({ nodeId }) => nodeId)).toEqual(['gpu']);
    const byLabels = await fleet.client.kill({ scope, mode: 'immediate' });
    expect(byLabels.targets.map(({ nodeId, outcome }) => [nodeId, outcome])).toEqual([['gpu', 'killed']]);
    expect(latchOf(byLabels)).toMatchObject({ scope, orderId: byLabels.orderId });
    const byPool = await fleet.client.kill({ scope: { type: 'pool', pool: 'gpu' }, mode: 'immediate' });
    expect(byPool.targets.map(({ nodeId, outcome }) => [nodeId, outcome])).toEqual([['small', 'killed']]);
    expect((await running(id, 1)).map(({ nodeId }) => nodeId)).toEqual(['cpu']);
    await expect(
      fleet.client.createExecution({
        name: 'test',
        nodes: [{ id: 'a', pool: 'gpu', run: { command: ['true'] } }],
      }),
    ).rejects.toMatchObject({ code: 'LATCHED' });
  });

  it('R52 an attempt that is claimed while a wide kill is open is caught before it is spawned', async () => {
    // Deaf: the order stays open for its grace, which no slow machine outlasts.
    const deaf = await submit([
      { id: 'deaf', run: sh(`trap '' TERM; echo ready; while :; do sleep 0.1; done`) },
    ]);
    const [agent] = await running(deaf, 1);
    // The shell may run before it ignores the signal.
    await eventually(
      async () => (await fleet.client.logs(agent!.id)).lines.some(({ line }) => line === 'ready'),
      'its trap',
    );
    const open = await fleet.client.killWithoutWaiting({
      scope: { type: 'all' },
      latch: false,
      graceMs: 120_000,
    });
    const late = await submit([{ id: 'late', run: SLEEP }], { onFailure: 'continue' });
    expect(await ended(late)).toMatchObject({ state: 'stopped' });
    expect((await fleet.client.receipt(open.orderId)).complete).toBe(false);
    await fleet.client.killAgent(agent?.id ?? '', { mode: 'immediate' });
    const receipt = await complete(open.orderId);
    const outcomes = receipt.targets.map(({ nodeId, outcome }) => [nodeId, outcome]);
    expect(Object.fromEntries(outcomes)).toEqual({ deaf: 'killed', late: 'killed' });
    expect(processesWith(late)).toEqual([]);
    // A complete order reaches nothing any more.
    const next = await submit([{ id: 'a', run: { command: ['sleep', '1'] } }]);
    expect(await ended(next)).toMatchObject({ state: 'completed' });
  });
});

describe('the doorbell', () => {
  it('R52 is dropped hundreds of times at random moments: no kill is lost', async () => {
    const { redis } = fleet.life.valkey;
    // `npm run test:doorbell` cuts 1,000 times.
    const CUTS = Number(process.env['BELAY_TEST_CUTS'] ?? 250);
    const AT_ONCE = 12;
    const tally = { cuts: 0, kills: 0 };
    while (tally.cuts < CUTS) {
      const ids = await Promise.all(
        Array.from({ length: AT_ONCE }, async () =>
          submit([{ id: 'a', run: { command: ['sleep', '600'] } }]),
        ),
      );
      await Promise.all(ids.map(async (id) => running(id, 1)));
      const stopped = new AbortController();
      const cutting = (async () => {
        while (!stopped.signal.aborted) {
          tally.cuts += Number(await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
          // A random moment: between no time and the time that a subscription takes.
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 8));
        }
      })();
      const responses = await Promise.all(
        ids.map(async (id) => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
          return fleet.client.stop(id, { graceMs: 5_000 });
        }),
      );
      stopped.abort();
      await cutting;
      for (const { status, receipt } of responses)
        expect({ status, complete: receipt?.complete, totals: receipt?.totals }).toMatchObject({
          status: 'stopped',
          complete: true,
          totals: { total: 1, killed: 1 },
        });
      for (const id of ids) expect(processesWith(id)).toEqual([]);
      tally.kills += ids.length;
    }
    expect(tally.kills).toBeGreaterThan(CUTS / 10);
  });

  it('R52 R55 a guard whose subscription is cut hears the question once it stands again', async () => {
    const { redis } = fleet.life.valkey;
    // The test before leaves the subscriptions cut.
    const subscribed = async (): Promise<number> => {
      const [, count] = (await redis.call('PUBSUB', 'NUMSUB', fleet.life.valkey.keys.doorbellChannel)) as [
        string,
        number,
      ];
      return count;
    };
    await eventually(async () => (await subscribed()) === 2, 'two guards that listen');
    await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    const report = await fleet.client.armed();
    expect(report).toMatchObject({ armed: true, workers: [{ guardian: true }, { guardian: true }] });
  });

  it('R31 R52 a foreign message on a channel ends no worker, no stream and no wait', async () => {
    const { redis, keys } = fleet.life.valkey;
    const id = await submit([{ id: 'a', run: SLEEP }]);
    await running(id, 1);
    const said = ['', '{', 'null', '7', '[]', '{"order":{}}', '{"order":{"scope":null},"targets":[7]}'];
    for (const channel of [keys.doorbellChannel, keys.eventsChannel])
      for (const message of said) await redis.publish(channel, message);
    expect(await fleet.client.stop(id)).toMatchObject({
      status: 'stopped',
      receipt: { complete: true, totals: { total: 1, killed: 1 } },
    });
    expect(await fleet.client.armed()).toMatchObject({
      armed: true,
      workers: [{ armed: true }, { armed: true }],
    });
    const next = await submit([{ id: 'a', run: sh('true') }]);
    expect(await ended(next)).toMatchObject({ state: 'completed' });
  });
});

describe('freeze and thaw', () => {
  const COUNTING = sh('i=0; while :; do i=$((i+1)); echo $i > "$OUT"; sleep 0.02; done');
  /** 0 before its first write. */
  const counter = (path: string): number => (existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0);
  const file = (name: string): string => join(fleet.dir, name);
  const counting = (name: string) => ({ ...COUNTING, env: { OUT: file(name) } });

  /** Waits until the counter moves: two different values. */
  async function moves(path: string): Promise<void> {
    const from = counter(path);
    await eventually(() => counter(path) > from, `${path} counts on`, STEP_MS);
  }

  /** Checks that the counter does not move during heartbeats that would make dozens of counts. */
  async function stands(path: string): Promise<void> {
    const from = counter(path);
    const at = (await fleet.client.workers()).items[0]?.lastHeartbeatAt ?? 0;
    await eventually(
      async () =>
        ((await fleet.client.workers()).items[0]?.lastHeartbeatAt ?? 0) - at >= 900 ? true : undefined,
      'heartbeats',
    );
    expect(counter(path)).toBe(from);
  }

  it('R22 freeze stops a tree where it stands, its timeout and its deadline stand still, thaw goes on, nothing runs again', async () => {
    const id = await submit(
      [
        { id: 'a', timeoutMs: 3_000, maxAttempts: 1, run: counting('one') },
        { id: 'b', dependsOn: ['a'], run: { command: ['true'] } },
      ],
      {
        timeoutMs: 60_000,
      },
    );
    await running(id, 1);
    await eventually(async () => (counter(file('one')) > 3 ? true : undefined), 'counting').catch(
      () => undefined,
    );
    const { execution, receipt } = await fleet.client.pause(id, { mode: 'freeze' });
    expect(execution).toMatchObject({ state: 'paused', frozen: true });
    expect(execution.deadlineAt).toBeUndefined();
    expect(execution.deadlineLeftMs).toBeGreaterThan(50_000);
    expect(receipt).toMatchObject({ complete: true, totals: { total: 1, frozen: 1 } });
    await stands(file('one'));
    expect((await running(id, 1))[0]).toMatchObject({ frozen: true, attempt: 1 });
    const resumed = await fleet.client.resume(id);
    expect(resumed.execution.state).toBe('running');
    expect(resumed.receipt).toMatchObject({ complete: true, totals: { total: 1, thawed: 1 } });
    expect(resumed.execution.deadlineAt).toBeGreaterThan(0);
    await moves(file('one'));
    // Its own timeout ends it once its running time is used up.
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'TIMEOUT' } });
    expect((await fleet.life.agents.list({ executionId: id })).map(({ attempt }) => attempt)).toEqual([1]);
  });

  it('R22 drain lets running agents finish and starts nothing; resume goes on', async () => {
    const id = await submit([
      { id: 'a', run: { command: ['sleep', '0.5'] } },
      { id: 'b', dependsOn: ['a'], run: { command: ['true'] } },
    ]);
    await running(id, 1);
    expect((await fleet.client.pause(id)).execution.state).toBe('paused');
    await eventually(
      async () => ((await fleet.client.execution(id)).nodes.completed === 1 ? true : undefined),
      'a done',
    );
    expect(await fleet.client.execution(id)).toMatchObject({
      state: 'paused',
      nodes: { pending: 1, completed: 1 },
    });
    await fleet.client.resume(id);
    expect(await ended(id)).toMatchObject({ state: 'completed', nodes: { completed: 2 } });
  });

  it('R13 R22 freeze of everything and of a worker; an agent under two freezes goes on after the second thaw; a kill ends it frozen', async () => {
    const id = await submit([{ id: 'a', run: counting('two') }]);
    const [agent] = await running(id, 1);
    const all = await fleet.client.kill({ kind: 'freeze', scope: { type: 'all' } });
    expect(all).toMatchObject({ complete: true, totals: { total: 1, frozen: 1 }, latch: { kind: 'freeze' } });
    expect((await fleet.client.execution(id)).state).toBe('paused');
    await stands(file('two'));
    const worker = await fleet.client.kill({
      kind: 'freeze',
      scope: { type: 'worker', workerId: agent?.owner ?? '' },
    });
    expect(worker).toMatchObject({ complete: true, totals: { total: 1, frozen: 1 } });
    // A submit is accepted and waits.
    const waiting = await submit([{ id: 'w', run: { command: ['true'] } }]);
    const first = await fleet.client.releaseLatch(latchOf(all).id, 'thawed');
    expect(first.receipt).toMatchObject({ complete: true, totals: { frozen: 1 } });
    // Waiting attempts may start between the release and the naming of the thaw's targets, and become targets.
    const others = first.receipt?.targets.filter(({ executionId }) => executionId !== id) ?? [];
    expect(others.every(({ executionId }) => executionId === waiting)).toBe(true);
    expect(first.receipt?.targets.filter((target) => !others.includes(target))).toMatchObject([
      { agentId: agent?.id, outcome: 'frozen' },
    ]);
    expect((await fleet.client.execution(id)).state).toBe('running');
    await stands(file('two'));
    const second = await fleet.client.releaseLatch(latchOf(worker).id, 'thawed');
    expect(second.receipt).toMatchObject({ complete: true, totals: { total: 1, thawed: 1 } });
    await moves(file('two'));
    expect(await ended(waiting)).toMatchObject({ state: 'completed' });
    await fleet.client.pause(id, { mode: 'freeze' });
    expect((await fleet.client.stop(id)).receipt).toMatchObject({ complete: true, totals: { killed: 1 } });
    expect(processesWith(id)).toEqual([]);
  });

  it('R22 two freezes of one scope: their agents go on after the second release', async () => {
    const id = await submit([{ id: 'a', run: counting('three') }]);
    await running(id, 1);
    const freeze = async () => fleet.client.kill({ kind: 'freeze', scope: { type: 'all' } });
    const [one, two] = [await freeze(), await freeze()];
    const first = await fleet.client.releaseLatch(latchOf(one).id, 'mine is over');
    expect(first.receipt).toMatchObject({ complete: true, totals: { total: 1, frozen: 1 } });
    await stands(file('three'));
    const second = await fleet.client.releaseLatch(latchOf(two).id, 'and mine');
    expect(second.receipt).toMatchObject({ complete: true, totals: { total: 1, thawed: 1 } });
    await moves(file('three'));
    await fleet.client.stop(id);
  });

  it('R22 freezes and latches that overlap: paused executions go on once no freeze covers them, nodes and all', async () => {
    const id = await submit([
      { id: 'a', run: sh('echo ready; sleep 0.5') },
      { id: 'b', dependsOn: ['a'], run: { command: ['true'] } },
    ]);
    await running(id, 1);
    const all = { type: 'all' } as const;
    const one = latchOf(await fleet.client.kill({ kind: 'freeze', scope: all }));
    const two = latchOf(await fleet.client.kill({ kind: 'freeze', scope: all }));
    const latch = await fleet.client.engageLatch({ scope: all, note: 'and nothing new' });
    await fleet.client.releaseLatch(one.id, 'over');
    expect((await fleet.client.execution(id)).state).toBe('paused');
    await fleet.client.releaseLatch(two.id, 'over');
    expect((await fleet.client.execution(id)).state).toBe('running');
    await eventually(
      async () => (await fleet.client.execution(id)).nodes.completed === 1,
      'the end of what was frozen',
    );
    expect((await fleet.client.execution(id)).nodes.ready).toBe(1);
    await fleet.client.releaseLatch(latch.id, 'over');
    expect(await ended(id)).toMatchObject({ state: 'completed' });
  });

  it.each([
    ['releases a freeze', 'once'],
    ['resumes', 'once'],
    ['releases a freeze', 'again'],
    ['resumes', 'again'],
  ])('R22 an orchestrator killed as it %s leaves nothing frozen, %s', async (act, time) => {
    const name = `crash-${act.length}-${time}`;
    const other = fleet.client;
    const id = await submit([{ id: 'a', run: counting(name) }]);
    await running(id, 1);
    await moves(file(name));
    const victim = await fleet.addOrchestrator();
    const client = createClient({ url: victim.url ?? '', token: fleet.token });
    if (act === 'resumes') {
      await other.pause(id, { mode: 'freeze' });
      await dieAt(victim, 'execution.running', async () => client.resume(id));
    } else {
      const scope = { type: 'pool', pool: 'default' } as const;
      const latch = latchOf(await other.kill({ kind: 'freeze', scope }));
      await dieAt(victim, 'latch.released', async () => client.releaseLatch(latch.id, 'over'));
    }
    await moves(file(name));
    expect((await other.latches()).items).toEqual([]);
    // The order in the log resumes its trees. The sweep of another orchestrator resumes the execution next.
    await eventually(async () => (await other.execution(id)).state === 'running', 'the resume', STEP_MS);
    await other.stop(id, { mode: 'immediate' });
  });

  it('R50 a selector that an execution meets and a node of it does not: the execution ends whole, with every agent named', async () => {
    const id = await submit(
      [
        { id: 'a', labels: { env: 'prod' }, run: SLEEP },
        { id: 'b', run: SLEEP },
      ],
      { labels: { model: 'large' } },
    );
    await running(id, 2);
    const scope = { type: 'selector', selector: 'model=large,env!=prod' } as const;
    expect((await fleet.client.planKill({ scope })).targets).toHaveLength(2);
    expect(await fleet.client.kill({ scope })).toMatchObject({ complete: true, totals: { killed: 2 } });
    expect(await fleet.client.execution(id)).toMatchObject({ state: 'stopped', live: 0 });
    expect(processesWith(id)).toEqual([]);
  });

  it('R50 a kill is not refused because latches have reached their bound', async () => {
    const id = await submit([{ id: 'a', run: SLEEP }]);
    await running(id, 1);
    for (let i = 0; i < 200; i++)
      await fleet.client.engageLatch({ scope: { type: 'pool', pool: `p${i}` }, note: 'full' });
    await expect(
      fleet.client.engageLatch({ scope: { type: 'pool', pool: 'more' }, note: 'full' }),
    ).rejects.toMatchObject({ code: 'TOO_MANY_LATCHES' });
    expect(await fleet.client.kill({ scope: { type: 'all' } })).toMatchObject({ complete: true });
    expect(processesWith(id)).toEqual([]);
  });
});

/** Kills the orchestrator at the first event of that type, so that its request is cut in the middle. */
async function dieAt(victim: Member, type: string, ask: () => Promise<unknown>): Promise<void> {
  const events = fleet.life.valkey.connections.create('subscriber');
  let seen = false;
  let refused: unknown;
  events.on('message', (_channel: string, text: string) => {
    if (!text.includes(`"${type}"`)) return;
    seen = true;
    victim.process.kill('SIGKILL');
  });
  try {
    await events.subscribe(fleet.life.valkey.keys.eventsChannel);
    await ask().catch((error: unknown) => (refused = error));
    await eventually(() => seen, `the event ${type}`, STEP_MS).catch((error: unknown) => {
      throw new Error(`${String(error)}; asked was answered: ${String(refused)}`);
    });
    await eventually(
      () => victim.process.signalCode !== null,
      `the end of the orchestrator at ${type}`,
      STEP_MS,
    );
  } finally {
    events.disconnect();
  }
}

describe('bad input', () => {
  it.each([
    [{ scope: { type: 'selector', selector: '' } }, 'use the scope all'],
    [{ scope: { type: 'galaxy' } }, 'one of all, pool, selector'],
    [{}, 'To kill everything write {"type":"all"}'],
    [{ scope: { type: 'all' }, graceMs: -1 }, 'from 0 to'],
  ])('%j is refused, and nothing is placed', async (body, why) => {
    const before = (await fleet.client.receipts()).items.length;
    await expect(fleet.client.kill(body as never)).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringContaining(why) as string,
    });
    expect((await fleet.client.receipts()).items).toHaveLength(before);
  });

  it('a kill of an ended agent succeeds and says so; two at once have one result; an unknown one is 404', async () => {
    const id = await submit([{ id: 'a', run: SLEEP }]);
    const [agent] = await running(id, 1);
    const two = await Promise.all([fleet.client.stop(id), fleet.client.stop(id)]);
    expect(two[0]).toEqual(two[1]);
    expect(await fleet.client.killAgent(agent?.id ?? '')).toMatchObject({
      complete: true,
      totals: { total: 0 },
    });
    expect(await fleet.client.stop(id)).toEqual(two[0]);
    await expect(fleet.client.killAgent('agt_01ARZ3NDEKTSV4RRFFQ69G5FAV-0-1')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(fleet.client.releaseLatch('lat_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'x')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(fleet.client.releaseLatch('lat_01ARZ3NDEKTSV4RRFFQ69G5FAV', '')).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
    });
  });
});
