import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { AgentQueues, DispatchModule } from '#libs/dispatch';
import { DagExecutor, ExecutionManager, ExecutionsModule, Janitor } from '#libs/executions';
import { KillswitchModule, KillswitchService } from '#libs/killswitch';
import { LifecycleModule, LifecycleService } from '#libs/lifecycle';
import { Valkey, ValkeyModule } from '#libs/valkey';
import { Test, type TestingModule } from '@nestjs/testing';
import type { Redis } from 'ioredis';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';

/** A program that imports the modules, beside a fleet whose workers run its agents. */
let fleet: Fleet;
let app: TestingModule;
let manager: ExecutionManager;
let life: LifecycleService;

beforeAll(async () => {
  fleet = await startFleet({ workers: 2, env: { BELAY_GRACE_MS: '300' } });
  const retention = { retentionMs: 60_000 };
  const valkey = ValkeyModule.forRoot({ url: fleet.server.url, shards: 2 });
  const lifecycle = LifecycleModule.forRoot({ imports: [valkey], ...retention });
  const dispatch = DispatchModule.forRoot({ imports: [lifecycle], prefix: 'bull' });
  const executions = ExecutionsModule.forRoot({ imports: [dispatch], intervalMs: 1_000, ...retention });
  app = await Test.createTestingModule({
    imports: [KillswitchModule.forRoot({ imports: [executions], proofLimitMs: 10_000, ...retention })],
  }).compile();
  await app.init();
  manager = app.get(ExecutionManager);
  life = app.get(LifecycleService);
});

afterAll(async () => {
  await app.close();
  await fleet.stop();
});

const sh = (script: string) => ({ command: [script], shell: true });

it('R16 an aborted signal starts nothing; an abort later stops every agent and leaves every node ended', async () => {
  const spec = {
    name: 'abort',
    nodes: [
      { id: 'deaf', run: sh('trap "" TERM; (sleep 600 & wait) & echo ready; while :; do sleep 0.1; done') },
      { id: 'polite', run: sh('echo ready; sleep 600') },
      { id: 'later', dependsOn: ['polite'], run: sh('true') },
    ],
  };
  const before = await fleet.life.valkey.redis.dbsize();
  await expect(manager.submit(spec, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    name: 'AbortError',
  });
  expect(await fleet.life.valkey.redis.dbsize()).toBe(before);

  const controller = new AbortController();
  const { execution } = await manager.submit(spec, { signal: controller.signal });
  await eventually(async () => {
    const agents = await life.agents.list({ executionId: execution.id, states: ['running'] });
    const logs = await Promise.all(agents.map(async (agent) => (await fleet.client.logs(agent.id)).lines));
    return logs.filter((lines) => lines.some(({ line }) => line === 'ready')).length === 2;
  }, 'both agents ready');
  controller.abort();
  const record = await fleet.client.waitForEnd(execution.id, { giveUpAfterMs: 30_000 });
  expect(record).toMatchObject({ state: 'stopped', reason: 'user_abort', nodes: { cancelled: 3 } });
  expect(processesWith(execution.id)).toEqual([]);
});

it('R24 lists active executions across processes and restarts, by state, owner and label', async () => {
  const { execution } = await manager.submit({
    name: 'listed',
    labels: { team: 'data' },
    nodes: [{ id: 'a', run: sh('echo ready; sleep 600') }],
  });
  const [agent] = await eventually(async () => {
    const found = await life.agents.list({ executionId: execution.id, states: ['running'] });
    return found.length > 0 && found;
  }, 'the agent');
  const other = await fleet.addOrchestrator();
  const get = async (path: string) =>
    (await (
      await fetch(`${other.url}${path}`, { headers: { authorization: `Bearer ${fleet.token}` } })
    ).json()) as {
      items: { id: string }[];
    };
  expect((await get('/api/executions?state=running&label=team=data')).items.map((e) => e.id)).toEqual([
    execution.id,
  ]);
  expect((await get(`/api/agents?owner=${agent?.owner}&state=running`)).items.map((a) => a.id)).toEqual([
    agent?.id,
  ]);
  await fleet.client.stop(execution.id);
  expect((await get('/api/executions?state=running')).items).toEqual([]);
  expect((await get(`/api/agents?owner=${agent?.owner}`)).items).toEqual([]);
});

it('R52 a kill whose look-up fails is placed all the same: its receipt names the agents that it killed', async () => {
  const killswitch = app.get(KillswitchService);
  const { execution } = await manager.submit({
    name: 'unlooked',
    nodes: [{ id: 'a', run: sh('echo ready; exec sleep 600') }],
  });
  await eventually(
    async () => (await life.agents.list({ executionId: execution.id, states: ['running'] })).length === 1,
    'the agent',
  );
  // No other process names the order's targets before this look.
  for (const { process: worker } of fleet.workers) worker.kill('SIGSTOP');
  const look = jest.spyOn(life.valkey.redis, 'exists').mockRejectedValueOnce(new Error('the server hung up'));
  const scope = { type: 'execution', executionId: execution.id } as const;
  const order = await killswitch.placeOrder({ scope, by: 'test' });
  expect(look).toHaveBeenCalled();
  look.mockRestore();
  for (const { process: worker } of fleet.workers) worker.kill('SIGCONT');
  const receipt = await eventually(async () => {
    const found = await killswitch.orders.receipt(order.id);
    return found.complete && found;
  }, 'the sweep of another process');
  expect(receipt).toMatchObject({ order: { scope }, totals: { total: 1, killed: 1 } });
  expect(processesWith(execution.id)).toEqual([]);
});

it('R36 a DAG of 10,000 nodes runs to its end in order, and no script moves more of it than a few hundred', async () => {
  const nothing = { dispatch: async () => undefined, drop: async () => undefined, sweep: async () => 0 };
  const queues = nothing as unknown as AgentQueues;
  // Only the graph: this process makes claims and ends, so 10,000 nodes need no process.
  const dag = new DagExecutor(life, queues);
  const direct = new ExecutionManager(life, dag);
  const width = 100;
  const nodes = Array.from({ length: 10_000 }, (_, i) => ({
    id: `n${i}`,
    pool: 'nowhere',
    maxAttempts: 1,
    dependsOn: i < width ? [] : [`n${i - width}`, `n${i - width + ((i + 1) % width === 0 ? 1 - width : 1)}`],
    run: { command: ['true'] },
  }));
  const { redis, keys } = life.valkey;
  const work = await countScriptWork(redis);
  const { execution } = await direct.submit({ name: 'large', nodes });
  const root = (_: unknown, i: number) => ({ id: `r${i}`, pool: 'nowhere', run: { command: ['true'] } });
  await direct.submit({ name: 'wide', nodes: Array.from({ length: 2_000 }, root) });
  // 200 nodes a call, a dozen commands each. The wide graph in one call would be three times the bound.
  expect(await work.most()).toBeLessThan(8_000);
  const outbox = keys.shard(keys.tagOf(execution.id), 'outbox');
  const place = new Map<string, number>();
  let done = 0;
  while (done < nodes.length) {
    // The wide execution may be of the same shard.
    const entries = Object.values(await redis.hgetall(outbox))
      .map(
        (text) =>
          JSON.parse(text) as { agentId: string; nodeId: string; executionId: string; attempt: number },
      )
      .filter(({ executionId }) => executionId === execution.id);
    expect(entries.length).toBeGreaterThan(0);
    await Promise.all(
      entries.map(async (entry) => {
        const claim = await life.agents.claim(entry, 'wrk_bench', 't');
        if (!claim.claimed) throw new Error(claim.why);
        place.set(entry.nodeId, done++);
        await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
        const { more } = await life.agents.finish(claim.fence, { state: 'completed', exitCode: 0 });
        if (more) await dag.drive(execution.id);
      }),
    );
  }
  expect(await life.executions.get(execution.id)).toMatchObject({
    state: 'completed',
    nodes: { completed: 10_000 },
  });
  for (const node of nodes)
    for (const before of node.dependsOn) expect(place.get(before)).toBeLessThan(place.get(node.id) ?? -1);
  expect(app.get(Janitor)).toBeDefined();
});

/**
 * How many commands the busiest script has run, by the server's own count, whatever time it took. Over a socket of its own,
 * because ioredis takes commands of other clients that arrive together with the answer to MONITOR for answers.
 */
async function countScriptWork(redis: Valkey['redis']): Promise<{ most: () => Promise<number> }> {
  const socket = connect(fleet.server.socketPath ?? '');
  const lines = createInterface(socket);
  let most = 0;
  let here = 0;
  let onMark: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      if (line === '+OK') return resolve();
      here = /^\+[\d.]+ \[\d+ lua\]/.test(line) ? here + 1 : 0;
      most = Math.max(most, here);
      if (/\] "echo" "counted"$/i.test(line)) onMark();
    });
  });
  socket.write('MONITOR\r\n');
  await begun;
  return {
    most: async () => {
      const marked = new Promise<void>((resolve) => (onMark = resolve));
      await (redis as Redis).echo('counted');
      await marked;
      socket.destroy();
      return most;
    },
  };
}
