import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '#libs/client';
import { startThrowawayServer } from '#libs/local-server';
import { Link } from '../faults/link';
import { ready } from '../support/executions';
import { eventually, processesWith } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';

const sh = (script: string) => ({ command: [script], shell: true });
const ENV = {
  BELAY_LEASE_TTL_MS: '4000',
  BELAY_HEARTBEAT_MS: '300',
  BELAY_GRACE_MS: '300',
  BELAY_LOG_LEVEL: 'debug',
};

const { begin, fleet, it, onEnd } = fleetPerTest();

async function running(nodes: object[]): Promise<{ id: string; agentId: string }> {
  const { execution } = await fleet.client.createExecution({ name: 'drained', nodes });
  const [agent] = await ready(fleet.client, execution.id, 1);
  return { id: execution.id, agentId: agent?.id ?? '' };
}

it('R46 SIGTERM, SIGINT, SIGTERM to a worker: one shutdown, the second at debug, the third forces; the exit code says so', async () => {
  await begin({ workers: 1, env: { ...ENV, BELAY_STOP_TIMEOUT_MS: '60000' } });
  const { id, agentId } = await running([
    { id: 'a', run: sh("trap '' TERM; echo ready; sleep 600; sleep 600") },
  ]);
  const [worker] = fleet.workers;
  const log = (): string => worker?.log() ?? '';
  worker?.process.kill('SIGTERM');
  await eventually(async () => log().includes('draining (SIGTERM)'), 'the drain');
  worker?.process.kill('SIGINT');
  await eventually(async () => log().includes('SIGINT again: already draining'), 'the second signal');
  const second = log()
    .split('\n')
    .find((line) => line.includes('already draining'));
  expect((JSON.parse(second ?? '{}') as { level?: number }).level).toBe(20);
  expect(processesWith(id).length).toBeGreaterThan(0);
  worker?.process.kill('SIGTERM');
  expect(await worker?.exited).toBe(3);
  expect(processesWith(id)).toEqual([]);
  expect(log().match(/"msg":"draining \(/g)).toHaveLength(1);
  // The log names the agent, and its real end is stored.
  expect(log()).toContain(agentId);
  expect(await fleet.client.agent(agentId)).toMatchObject({ state: 'failed', reason: 'server_shutdown' });
});

it.each(['not answered yet', 'answered after other processes have ended the attempt'])(
  'R46 a third signal forces a drain also where all it ends is an attempt whose claim is %s',
  async (answered) => {
    const server = await startThrowawayServer();
    onEnd(async () => server.stop());
    const link = await Link.open({ path: server.socketPath ?? '' });
    onEnd(() => link.close());
    await begin({ url: server.url, workers: 0, env: { ...ENV, BELAY_STOP_TIMEOUT_MS: '60000' } });
    const worker = await fleet.addWorker({ BELAY_VALKEY_URL: link.url });
    const held = link.holdAtClaim(60_000, new AbortController().signal);
    const { execution } = await fleet.client.createExecution({
      name: 'claimed',
      nodes: [{ id: 'a', maxAttempts: 1, run: sh('sleep 600') }],
    });
    expect(await held).toBe(true);
    worker.process.kill('SIGTERM');
    await eventually(async () => worker.log().includes('draining (SIGTERM)'), 'the drain');
    worker.process.kill('SIGINT');
    await eventually(
      async () => worker.log().includes('SIGINT again: already draining'),
      'the second signal',
    );
    worker.process.kill('SIGTERM');
    await eventually(async () => worker.log().includes('forced by a third signal'), 'the force');
    const attempt = async () => (await fleet.client.agents({ executionId: execution.id })).items[0];
    if (answered !== 'not answered yet')
      await eventually(async () => (await attempt())?.state === 'failed', 'the end of the attempt');
    link.heal();
    expect(await worker.exited).toBe(3);
    // Which end is stored depends on the way of the answer: worker.module.spec.ts shows each.
    const last = worker.log().trim().split('\n').at(-1) ?? '{}';
    expect(JSON.parse(last)).toMatchObject({ forced: true, stopped: [(await attempt())?.id] });
  },
);

it('R51 R43 ends that a drain could not store are proved dead by the next worker of its host', async () => {
  await begin({
    workers: 1,
    // Longer than the drain takes: nothing fences the agent, and no guardian proves its end.
    env: { ...ENV, BELAY_LEASE_TTL_MS: '20000', BELAY_STOP_TIMEOUT_MS: '3000' },
    server: { appendonly: true },
  });
  const { id, agentId } = await running([{ id: 'a', run: sh('echo ready; exec sleep 600'), maxAttempts: 1 }]);
  const [worker] = fleet.workers;
  worker?.process.kill('SIGTERM');
  await eventually(
    async () => (await fleet.life.workers.get(worker?.id ?? '')).state === 'draining',
    'draining in the record',
  );
  await fleet.server.kill9();
  expect(await worker?.exited).toBe(3);
  expect(processesWith(id)).toEqual([]);
  await fleet.server.restart();
  await eventually(
    async () => (await fleet.life.agents.get(agentId).catch(() => undefined))?.state === 'failed',
    'the attempt given up',
    60_000,
  );
  expect((await fleet.life.agents.unproved()).map((agent) => agent.id)).toEqual([agentId]);
  await fleet.addWorker();
  await eventually(async () => (await fleet.life.agents.unproved()).length === 0, 'its proof', 60_000);
  expect(await fleet.client.agent(agentId)).toMatchObject({
    state: 'failed',
    reason: 'worker_lost',
    report: {
      proved: true,
      signals: [],
      survivors: [],
      evidence: expect.arrayContaining([
        expect.objectContaining({
          detail: expect.stringContaining('its worker drained and saw none') as string,
        }),
      ]) as unknown,
    },
  });
  expect(readdirSync(join(fleet.dir, 'hosts')).filter((name) => name.endsWith('.proof'))).toEqual([]);
});

it('R46 SIGINT and SIGTERM at once to an orchestrator: one shutdown, exit code 0', async () => {
  await begin({ workers: 0, env: ENV });
  const [orchestrator] = fleet.orchestrators;
  orchestrator?.process.kill('SIGINT');
  orchestrator?.process.kill('SIGTERM');
  expect(await orchestrator?.exited).toBe(0);
  expect(orchestrator?.log().match(/"msg":"draining \(/g)).toHaveLength(1);
  expect(orchestrator?.log().match(/"msg":"stopped"/g)).toHaveLength(1);
});

it('R46 SIGTERM, SIGINT, SIGTERM to an orchestrator whose drain is stuck: the second at debug, the third forces', async () => {
  await begin({ workers: 0, env: { ...ENV, BELAY_STOP_TIMEOUT_MS: '60000' } });
  const [orchestrator] = fleet.orchestrators;
  const log = (): string => orchestrator?.log() ?? '';
  const { redis, keys } = fleet.life.valkey;
  await eventually(
    async () => (await redis.exists(keys.shard(keys.control, 'turn:janitor'))) === 1,
    'the janitor’s turn',
  );
  // The janitor has that lock to release, and the server accepts no writes for longer than this test lasts.
  await redis.call('CLIENT', 'PAUSE', '120000', 'WRITE');
  orchestrator?.process.kill('SIGTERM');
  await eventually(async () => log().includes('draining (SIGTERM)'), 'the drain');
  orchestrator?.process.kill('SIGINT');
  await eventually(async () => log().includes('SIGINT again: already draining'), 'the second signal');
  expect(orchestrator?.process.exitCode).toBeNull();
  orchestrator?.process.kill('SIGTERM');
  expect(await orchestrator?.exited).toBe(1);
  expect(log().match(/"msg":"draining \(/g)).toHaveLength(1);
  expect(log()).not.toContain('the drain is stuck');
  expect(log()).not.toContain('"msg":"stopped"');
  await redis.call('CLIENT', 'UNPAUSE');
});

it('R46 R47 a complete shutdown ends the process within 5 s though a handle keeps its event loop alive', async () => {
  const holds = `--require=${join(__dirname, '../fixtures/holds-the-loop.cjs')}`;
  // With no patience for agents the overall deadline of the drain strikes just after the process should have left.
  await begin({ workers: 1, env: { ...ENV, NODE_OPTIONS: holds, BELAY_STOP_TIMEOUT_MS: '1' } });
  const members = [...fleet.workers, ...fleet.orchestrators];
  const ended = members.map(async ({ process: child, log, exited }) => {
    child.kill('SIGTERM');
    await eventually(async () => log().includes('"msg":"stopped"'), 'the end of its drain', 60_000);
    const drainedAt = performance.now();
    const code = await exited;
    return { code, heldFor: performance.now() - drainedAt, said: log() };
  });
  for (const { code, heldFor, said } of await Promise.all(ended)) {
    expect(said).not.toContain('the drain is stuck');
    expect(said).toMatch(/"open":\[.*"Timeout".*something is still open/);
    // Without an open handle the process is gone at once; with one, the overall deadline ends it, with the drain's own code.
    expect(code).toBe(0);
    expect(heldFor).toBeGreaterThan(3_000);
  }
});

it('R46 an orchestrator that drains answers the requests it has taken: none is cut off', async () => {
  await begin({ workers: 0, env: ENV });
  const other = await fleet.addOrchestrator();
  const client = createClient({ url: other.url ?? '', token: fleet.token });
  const spec = { name: 'taken', nodes: [{ id: 'a', run: { command: ['true'] } }] };
  const outcomes: string[] = [];
  const ask = async (): Promise<void> => {
    for (;;) {
      const outcome = await client.createExecution(spec).then(
        () => 'accepted',
        (error: { code?: string }) => String(error.code),
      );
      outcomes.push(outcome);
      if (outcome !== 'accepted') return;
    }
  };
  const asking = Promise.all(Array.from({ length: 12 }, ask));
  await eventually(() => outcomes.length > 50, 'submits under way');
  other.process.kill('SIGTERM');
  await asking;
  expect(await other.exited).toBe(0);
  expect(other.log()).not.toContain('something is still open');
  // Each stored submit was answered. A connection that is closed while the next request is on its way may leave that client in
  // doubt, but then nothing was done.
  const ends = new Set(outcomes.filter((outcome) => outcome !== 'accepted'));
  const known = ['DRAINING', 'SERVER_UNREACHABLE', 'OUTCOME_UNKNOWN'];
  expect([...ends].filter((code) => !known.includes(code))).toEqual([]);
  const { items } = await fleet.client.executions({ limit: 1_000 });
  expect(items).toHaveLength(outcomes.filter((outcome) => outcome === 'accepted').length);
});

it('R46 R51 callers who wait for a proof do not delay an orchestrator’s end, and their orders stay open', async () => {
  await begin({ workers: 1, env: { ...ENV, BELAY_GRACE_MS: '60000' } });
  const { id, agentId } = await running([
    { id: 'a', run: sh("trap '' TERM; echo ready; while :; do sleep 0.1; done") },
  ]);
  const other = await fleet.addOrchestrator();
  const client = createClient({ url: other.url ?? '', token: fleet.token });
  const gone = new AbortController();
  const { signal } = gone;
  const asked = [client.stop(id, {}, { signal }), client.killAgent(agentId, {}, { signal })];
  const waits = asked.map(async (wait: Promise<unknown>) => wait.catch(() => undefined));
  await eventually(async () => (await fleet.client.receipts()).items.length === 2, 'both orders');
  other.process.kill('SIGTERM');
  expect(await other.exited).toBe(0);
  gone.abort();
  expect(other.log()).not.toContain('something is still open');
  const receipts = (await fleet.client.receipts()).items;
  expect(receipts.map(({ complete, totals }) => [complete, totals.pending])).toEqual([
    [false, 1],
    [false, 1],
  ]);
  expect(await fleet.client.execution(id)).toMatchObject({ state: 'stopping' });
  expect((await fleet.client.stop(id, { mode: 'immediate' })).receipt).toMatchObject({ complete: true });
  await Promise.all(waits);
  for (const { orderId } of receipts)
    await eventually(async () => (await fleet.client.receipt(orderId)).complete, `the receipt of ${orderId}`);
});

it('R44 the agents that a drain stopped are named in its log, marked, and run again elsewhere by their policy alone', async () => {
  await begin({ workers: 1, env: { ...ENV, BELAY_STOP_TIMEOUT_MS: '300' } });
  const ran = join(fleet.dir, 'ran');
  const script = (name: string): string => `echo "$BELAY_ATTEMPT" >>${ran}-${name}; echo ready; sleep 600`;
  const again = await running([
    { id: 'a', run: sh(script('again')), backoff: { type: 'fixed', delayMs: 0 } },
  ]);
  const once = await running([{ id: 'a', run: sh(script('once')), maxAttempts: 1 }]);
  const [first] = fleet.workers;
  const second = await fleet.addWorker();
  first?.process.kill('SIGTERM');
  expect(await first?.exited).toBe(3);
  const told = first
    ?.log()
    .split('\n')
    .find((line) => line.includes('still running after'));
  expect((JSON.parse(told ?? '{}') as { agents?: string[] }).agents?.toSorted()).toEqual(
    [again.agentId, once.agentId].toSorted(),
  );
  for (const { agentId } of [again, once])
    expect(await fleet.client.agent(agentId)).toMatchObject({
      state: 'failed',
      reason: 'server_shutdown',
      report: { proved: true },
    });
  const [next] = await eventually(async () => {
    const { items } = await fleet.client.agents({ executionId: again.id, state: ['running'] });
    return items.length > 0 && items;
  }, 'the next attempt');
  expect(next).toMatchObject({ owner: second.id, attempt: 2, previousId: again.agentId });
  expect(await fleet.client.waitForEnd(once.id, { giveUpAfterMs: 30_000 })).toMatchObject({
    state: 'failed',
  });
  await eventually(async () => existsSync(`${ran}-again`), 'its record');
  expect(readFileSync(`${ran}-once`, 'utf8')).toBe('1\n');
  await fleet.client.stop(again.id);
});

it('R42 R45 R49 while an orchestrator drains it answers health, status and streams, takes nothing new, and is not ready', async () => {
  await begin({ workers: 1, env: ENV });
  const go = join(fleet.dir, 'go');
  const { id } = await running([{ id: 'a', run: sh(`echo ready; until [ -e ${go} ]; do sleep 0.05; done`) }]);
  const [orchestrator] = fleet.orchestrators;
  const url = orchestrator?.url ?? '';
  const headers = { authorization: `Bearer ${fleet.token}`, 'content-type': 'application/json' };
  const status = async (path: string): Promise<number> => (await fetch(`${url}${path}`)).status;
  const states = async () => Promise.all(['/health', '/health/live', '/health/ready'].map(status));
  expect(await states()).toEqual([200, 200, 200]);
  const events = fetch(`${url}/api/executions/${id}/events`, { headers }).then(async (one) => one.text());
  // The janitor has a lock to release, and the server accepts no write for a while: there is time to look at the drain.
  const { redis, keys } = fleet.life.valkey;
  await eventually(
    async () => (await redis.exists(keys.shard(keys.control, 'turn:janitor'))) === 1,
    'the janitor’s turn',
  );
  await redis.call('CLIENT', 'PAUSE', '2500', 'WRITE');
  orchestrator?.process.kill('SIGTERM');
  await eventually(
    async () => ((await (await fetch(`${url}/health`)).json()) as { state: string }).state === 'draining',
    'draining',
  );
  expect(await states()).toEqual([200, 200, 503]);
  const spec = { name: 'late', nodes: [{ id: 'a', run: { command: ['true'] } }] };
  const refused = await fetch(`${url}/api/executions`, {
    method: 'POST',
    headers,
    body: JSON.stringify(spec),
  });
  expect(refused.status).toBe(503);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ code: 'DRAINING' });
  const read = await fetch(`${url}/api/executions/${id}`, { headers });
  expect(read.status).toBe(200);
  expect(orchestrator?.process.exitCode).toBeNull();
  expect(await events).toMatch(/event: server_shutting_down/);
  expect(await orchestrator?.exited).toBe(0);
  // No execution came of the refused submit.
  writeFileSync(go, '');
  await fleet.addOrchestrator();
  await eventually(async () => (await fleet.life.executions.get(id)).state === 'completed', 'its end');
  expect((await fleet.life.executions.list()).items.map((one) => one.id)).toEqual([id]);
});
