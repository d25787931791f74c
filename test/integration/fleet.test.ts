import type { BelayEvent, ExecutionRecord } from '#libs/contracts';
import { ready as agentsReady } from '../support/executions';
import { NOISE_MS, processesWith, startFleet, type Fleet } from '../support/fleet';

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 2, env: { BELAY_GRACE_MS: '400', BELAY_WORKER_CONCURRENCY: '16' } });
});
afterAll(async () => fleet.stop());

const sh = (script: string) => ({ command: [script], shell: true });

async function submit(nodes: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes, ...more });
  return execution.id;
}

async function ended(id: string): Promise<ExecutionRecord> {
  return fleet.client.waitForEnd(id, { giveUpAfterMs: 60_000 });
}

async function eventsOf(id: string): Promise<BelayEvent[]> {
  const events: BelayEvent[] = [];
  for await (const event of fleet.client.events(id)) events.push(event);
  return events;
}

const ready = async (id: string, count: number) => agentsReady(fleet.client, id, count);

describe('a whole run', () => {
  it('R36 runs a diamond over two workers, results handed downstream, events numbered without a gap', async () => {
    const id = await submit([
      {
        id: 'a',
        run: sh(`echo '{"type":"result","value":{"n":1}}' >&3; echo '{"type":"cost","usd":0.5}' >&3`),
      },
      { id: 'b', dependsOn: ['a'], run: sh('sleep 0.1') },
      { id: 'c', dependsOn: ['a'], run: sh('cat; echo') },
      { id: 'd', dependsOn: ['b', 'c'], run: sh('true') },
    ]);
    const record = await ended(id);
    expect(record).toMatchObject({ state: 'completed', costUsd: 0.5, nodes: { completed: 4 }, live: 0 });
    const events = await eventsOf(id);
    expect(events.map((event) => event.seq)).toEqual(events.map((_, i) => i + 1));
    const at = (type: string, nodeId: string) =>
      events.findIndex((e) => e.type === type && e.nodeId === nodeId);
    for (const [from, to] of [
      ['a', 'b'],
      ['a', 'c'],
      ['b', 'd'],
      ['c', 'd'],
    ] as const) {
      expect(at('node.running', to)).toBeGreaterThan(at('node.completed', from));
    }
    const { items } = await fleet.client.agents({ executionId: id });
    const c = items.find((agent) => agent.nodeId === 'c');
    const { lines } = await fleet.client.logs(c?.id ?? '');
    expect(JSON.parse(lines[0]?.line ?? '')).toEqual({
      input: null,
      upstream: { a: { n: 1 } },
      attempt: 1,
      isRecovery: false,
      lastCheckpoint: null,
      earlierEvents: [],
    });
    expect(await fleet.client.node(id, 'a')).toMatchObject({ state: 'completed', result: { n: 1 } });
  });

  it('R37 runs N slots at once, and one stuck node never delays another', async () => {
    // Each waits until the other two have started: serial dispatch would never end.
    const dir = fleet.dir;
    const meet = (me: string, others: string[]) =>
      sh(
        `touch ${dir}/${me}; until ${others.map((o) => `[ -e ${dir}/${o} ]`).join(' && ')}; do sleep 0.02; done`,
      );
    const stuck = await submit([{ id: 'stuck', run: sh('echo ready; sleep 600') }]);
    await ready(stuck, 1);
    const id = await submit([
      { id: 'x', run: meet('x', ['y', 'z']) },
      { id: 'y', run: meet('y', ['x', 'z']) },
      { id: 'z', run: meet('z', ['x', 'y']) },
    ]);
    expect((await ended(id)).state).toBe('completed');
    expect((await fleet.client.execution(stuck)).state).toBe('running');
    expect((await fleet.client.stop(stuck)).status).toBe('stopped');
  });

  it('R9 retries with another attempt and a later failure skips the dependants', async () => {
    const id = await submit(
      [
        {
          id: 'a',
          run: sh('[ "$BELAY_ATTEMPT" = 2 ]'),
          maxAttempts: 2,
          backoff: { type: 'fixed', delayMs: 10 },
        },
        { id: 'b', dependsOn: ['a'], run: sh('exit 7'), maxAttempts: 1 },
        { id: 'c', dependsOn: ['b'], run: sh('true') },
      ],
      { onFailure: 'continue' },
    );
    expect(await ended(id)).toMatchObject({
      state: 'failed',
      reason: 'error',
      error: { code: 'EXIT', nodeId: 'b' },
    });
    const { items } = await fleet.client.nodes(id);
    expect(items.map((n) => [n.id, n.state, n.attempt])).toEqual([
      ['a', 'completed', 2],
      ['b', 'failed', 1],
      ['c', 'skipped', 0],
    ]);
  });

  it('R15 an unknown command and a missing directory fail their nodes with a clear error, without another attempt', async () => {
    const id = await submit(
      [
        { id: 'nofile', run: { command: ['no-such-program-of-ours'] } },
        { id: 'nodir', run: { command: ['true'], cwd: 'no-such-directory' } },
      ],
      { onFailure: 'continue' },
    );
    expect((await ended(id)).state).toBe('failed');
    const { items } = await fleet.client.nodes(id);
    expect(items.map((n) => [n.error?.code, n.attempt])).toEqual([
      ['ENOENT', 1],
      ['BAD_CWD', 1],
    ]);
    expect(items[0]?.error?.message).toContain('no-such-program-of-ours');
  });

  it('R39 a node timeout and an execution deadline stop the work', async () => {
    const node = await submit([{ id: 'slow', run: sh('sleep 600'), timeoutMs: 200, maxAttempts: 1 }]);
    expect(await ended(node)).toMatchObject({ state: 'failed', error: { code: 'TIMEOUT' } });
    const whole = await submit([{ id: 'slow', run: sh('sleep 600') }], { timeoutMs: 300 });
    expect(await ended(whole)).toMatchObject({ state: 'stopped', reason: 'timeout' });
    expect(processesWith(node)).toEqual([]);
    expect(processesWith(whole)).toEqual([]);
  });

  it('R38 a hard budget of tokens stops the execution, and the answer to a stop has the spent tokens', async () => {
    const lines = ['{"type":"tokens","count":1500}', '{"type":"cost","usd":0.5,"estimated":true}'];
    const say = lines.map((line) => `echo '${line}' >&3`).join('; ');
    const id = await submit([{ id: 'a', run: sh(`${say}; sleep 600`) }], { maxTokens: 1_000 });
    expect(await ended(id)).toMatchObject({
      state: 'stopped',
      reason: 'budget_exceeded',
      error: { message: 'Spent 1500 tokens of a budget of 1000 tokens.' },
      tokens: 1_500,
      costUsd: 0.5,
      costEstimated: true,
    });
    expect(processesWith(id)).toEqual([]);
    expect(await fleet.client.stop(id)).toMatchObject({
      finalCostUsd: 0.5,
      costEstimated: true,
      finalTokens: 1_500,
    });
  });

  it('R38 a hard budget stops the execution and keeps what was spent', async () => {
    const id = await submit([{ id: 'a', run: sh(`echo '{"type":"cost","usd":3}' >&3; sleep 600`) }], {
      maxCostUsd: 2,
    });
    const record = await ended(id);
    expect(record).toMatchObject({ state: 'stopped', reason: 'budget_exceeded', costUsd: 3 });
    expect(processesWith(id)).toEqual([]);
    const [agent] = (await fleet.client.agents({ executionId: id })).items;
    expect(await fleet.client.waitForReceipt(record.orderId ?? '')).toMatchObject({
      order: { kind: 'kill', reason: 'budget_exceeded', scope: { type: 'execution', executionId: id } },
      complete: true,
      totals: { total: 1, killed: 1 },
      targets: [{ agentId: agent?.id, outcome: 'killed', report: { proved: true, survivors: [] } }],
    });
  });
});

describe('stopping', () => {
  const hostile = [
    { id: 'polite', run: sh('echo ready; sleep 600') },
    { id: 'deaf', run: sh('trap "" TERM; echo ready; while :; do sleep 0.1; done') },
    { id: 'grandchildren', run: sh('(sleep 600 & sleep 600 & wait) & echo ready; wait') },
    { id: 'setsid', run: sh('setsid sleep 600 & (setsid sh -c "sleep 600 &") & echo ready; wait') },
    { id: 'nohup', run: sh('nohup sleep 600 >/dev/null 2>&1 & echo ready; sleep 600') },
    { id: 'frozen', run: sh('echo ready; kill -STOP $$; sleep 600') },
  ];

  it('R12 R13 R19 R50 stops whole hostile trees from another process, with a complete receipt', async () => {
    const other = await fleet.addOrchestrator();
    const id = await submit([...hostile, { id: 'later', dependsOn: ['polite'], run: sh('true') }]);
    await ready(id, hostile.length);
    expect(processesWith(id).length).toBeGreaterThanOrEqual(10);
    const response = await fetch(`${other.url}/api/executions/${id}/stop`, {
      method: 'POST',
      headers: { authorization: `Bearer ${fleet.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ reason: 'user_abort', note: 'enough' }),
    });
    const stop = (await response.json()) as Awaited<ReturnType<typeof fleet.client.stop>>;
    expect(processesWith(id)).toEqual([]);
    expect(stop).toMatchObject({
      status: 'stopped',
      executionId: id,
      reason: 'user_abort',
      finalCostUsd: 0,
      costEstimated: false,
      summary: { nodesCompleted: 0, nodesFailed: 0, nodesTotal: 7 },
      receipt: { complete: true, missing: [], totals: { total: 6, killed: 6, unconfirmed: 0, pending: 0 } },
    });
    for (const target of stop.receipt?.targets ?? []) {
      expect(target.report).toMatchObject({ proved: true, survivors: [] });
      expect(target.report?.signals.length).toBeGreaterThan(0);
      expect(target.report?.evidence.map((e) => e.kind)).toContain('exit');
    }
    const record = await fleet.client.execution(id);
    expect({ status: record.state, reason: record.reason, stoppedAt: record.stoppedAt }).toEqual({
      status: stop.status,
      reason: stop.reason,
      stoppedAt: stop.stoppedAt,
    });
  });

  it('R10 a tree that ignores SIGTERM is gone soon after its grace, counted from the worker being asked', async () => {
    const id = await submit([
      { id: 'deaf', run: sh('trap "" TERM; echo ready; while :; do sleep 0.05; done'), graceMs: 300 },
    ]);
    await ready(id, 1);
    const { receipt } = await fleet.client.stop(id);
    const report = receipt?.targets[0]?.report;
    expect(report).toMatchObject({ proved: true, escalated: true });
    expect(report?.provedAfterMs).toBeGreaterThanOrEqual(300);
    expect(report?.provedAfterMs).toBeLessThan(300 + 500 + NOISE_MS);
  });

  it('R20 concurrent stops share one result, the first reason wins, an ended execution answers from its record', async () => {
    const id = await submit([{ id: 'a', run: sh('echo ready; sleep 600') }]);
    await ready(id, 1);
    const answers = await Promise.all([
      fleet.client.stop(id, { reason: 'user_abort' }),
      ...Array.from({ length: 5 }, async () => fleet.client.stop(id, { reason: 'server_shutdown' })),
    ]);
    expect(new Set(answers.map((a) => JSON.stringify({ ...a, receipt: a.receipt?.orderId }))).size).toBe(1);
    const again = await fleet.client.stop(id, { reason: 'error' });
    expect({ ...again, receipt: again.receipt?.orderId }).toEqual({
      ...answers[0],
      receipt: answers[0]?.receipt?.orderId,
    });
  });

  it('R51 R52 a kill on one node reaches a process owned by another; killed is recorded with its evidence', async () => {
    const id = await submit(
      [
        { id: 'a', run: sh('echo ready; sleep 600') },
        { id: 'b', run: sh('echo ready; sleep 600') },
      ],
      { onFailure: 'continue' },
    );
    const agents = await ready(id, 2);
    const receipt = await fleet.client.killAgent(agents[0]?.id ?? '');
    expect(receipt).toMatchObject({ complete: true, totals: { total: 1, killed: 1 } });
    const killed = await fleet.client.agent(agents[0]?.id ?? '');
    expect(killed).toMatchObject({ state: 'killed', reason: 'killswitch', report: { proved: true } });
    expect((await fleet.client.agent(agents[1]?.id ?? '')).state).toBe('running');
    const rest = await fleet.client.kill({
      scope: { type: 'worker', workerId: agents[1]?.owner ?? '' },
      latch: false,
    });
    expect(rest.totals.killed).toBe(1);
    expect(await ended(id)).toMatchObject({ state: 'failed', reason: 'killswitch' });
    expect(processesWith(id)).toEqual([]);
  });

  it('R55 each worker measures how long its kills took, from the placing of the order to the proof', async () => {
    const sums = async (): Promise<Record<string, number>> => {
      const totals: Record<string, number> = {};
      for (const { httpPort } of (await fleet.client.workers()).items) {
        const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
        const rows = text.matchAll(/^belay_kill_asked_to_(\w+_(?:sum|count))\{mode="graceful"\} (\S+)$/gm);
        for (const [, name = '', value] of rows) totals[name] = (totals[name] ?? 0) + Number(value);
      }
      return totals;
    };
    const before = await sums();
    const id = await submit([
      { id: 'deaf', run: sh('trap "" TERM; echo ready; while :; do sleep 0.05; done'), graceMs: 300 },
    ]);
    await ready(id, 1);
    await fleet.client.stop(id);
    const after = await sums();
    const added = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    for (const what of ['signalled', 'first_exit', 'proved']) expect(added(`${what}_seconds_count`)).toBe(1);
    expect(added('signalled_seconds_sum')).toBeGreaterThan(0);
    // Its grace lies between the two.
    expect(added('proved_seconds_sum') - added('signalled_seconds_sum')).toBeGreaterThanOrEqual(0.25);
  });

  it('R50 kill all stops every execution; a dry run names them and does nothing', async () => {
    const ids = await Promise.all(
      [1, 2, 3].map(async () => submit([{ id: 'a', run: sh('echo ready; sleep 600') }])),
    );
    await Promise.all(ids.map(async (id) => ready(id, 1)));
    const plan = await fleet.client.planKill({ scope: { type: 'all' } });
    expect([...plan.executions].sort()).toEqual([...ids].sort());
    expect(plan.targets).toHaveLength(3);
    expect((await fleet.client.agents({ state: ['running'] })).items).toHaveLength(3);
    const receipt = await fleet.client.kill({
      scope: { type: 'all' },
      latch: false,
      mode: 'immediate',
      note: 'drill',
    });
    expect(receipt).toMatchObject({ complete: true, totals: { total: 3, killed: 3 } });
    for (const id of ids) {
      expect(await ended(id)).toMatchObject({ state: 'stopped', reason: 'killswitch', note: 'drill' });
      expect(processesWith(id)).toEqual([]);
    }
  });

  it('R50 a kill reaches nothing that was started after it', async () => {
    for (let i = 0; i < 8; i++) {
      const old = await submit([{ id: 'a', run: sh('echo ready; sleep 600') }]);
      await ready(old, 1);
      const worker = (await fleet.client.agents({ executionId: old })).items[0]?.owner ?? '';
      const scope =
        i % 2 === 0 ? ({ type: 'all' } as const) : ({ type: 'worker', workerId: worker } as const);
      expect((await fleet.client.kill({ scope, latch: false, mode: 'immediate' })).totals).toMatchObject({
        total: 1,
        killed: 1,
      });
      // Long enough for several heartbeats to read the log again.
      const next = await submit([
        { id: 'a', run: sh('sleep 1.3') },
        { id: 'b', run: sh('sleep 1.3') },
      ]);
      expect(await ended(next)).toMatchObject({ state: 'completed' });
    }
  });

  it('R8 a stop during spawning leaves no process', async () => {
    for (let i = 0; i < 20; i++) {
      const id = await submit([
        { id: 'a', run: sh('sleep 600') },
        { id: 'b', run: sh('sleep 600') },
      ]);
      const stop = await fleet.client.stop(id);
      expect(stop.status).toBe('stopped');
      expect(processesWith(id)).toEqual([]);
      const events = await eventsOf(id);
      expect(events.filter((e) => e.type === 'execution.stopped')).toHaveLength(1);
    }
  });

  it('R7 stop against natural completion: one of the two ends, never both, and the response equals the record', async () => {
    const rounds = Number(process.env['BELAY_TEST_R7_ROUNDS'] ?? 1_000);
    const seen = { completed: 0, stopped: 0 };
    // One round in ten certainly meets its agent's end, one in ten its beginning: the others are the race.
    const one = async (i: number): Promise<void> => {
      const id = await submit([{ id: 'a', run: sh(i % 10 === 1 ? 'sleep 600' : `sleep 0.0${i % 5}`) }]);
      if (i % 10 === 0) await ended(id);
      const stop = await fleet.client.stop(id);
      const record = await fleet.client.execution(id);
      expect(stop.status).toBe(record.state);
      expect(stop.reason).toBe(record.reason);
      expect(stop.stoppedAt).toBe(record.stoppedAt);
      const ends = (await fleet.life.executions.events(id, '0-0')).filter((e) =>
        /^execution\.(completed|failed|stopped)$/.test(e.type),
      );
      expect(ends).toHaveLength(1);
      expect(ends[0]?.to).toBe(record.state);
      if (record.state !== 'completed' && record.state !== 'stopped')
        throw new Error(`${id} is ${record.state}`);
      seen[record.state]++;
    };
    for (let i = 0; i < rounds; i += 10)
      await Promise.all(Array.from({ length: 10 }, async (_, j) => one(i + j)));
    expect(seen.completed + seen.stopped).toBe(rounds);
    expect(seen.completed).toBeGreaterThan(0);
    expect(seen.stopped).toBeGreaterThan(0);
  }, 300_000);
});

describe('bad input', () => {
  const post = async (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) => {
    const response = await fetch(`${fleet.orchestrators[0]?.url}/api/executions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${fleet.token}`, 'content-type': 'application/json', ...headers },
      body,
    });
    return {
      status: response.status,
      body: (await response.json()) as { code: string; problems?: { code: string }[]; detail: string },
    };
  };
  const node = (id: string, more = {}) => ({ id, run: { command: ['true'] }, ...more });

  it.each([
    [
      'a cycle',
      { name: 'x', nodes: [node('a', { dependsOn: ['b'] }), node('b', { dependsOn: ['a'] })] },
      400,
    ],
    ['an unknown dependency', { name: 'x', nodes: [node('a', { dependsOn: ['q'] })] }, 400],
    ['duplicates', { name: 'x', nodes: [node('a'), node('a')] }, 400],
    ['nothing', {}, 400],
    ['no nodes', { name: 'x', nodes: [] }, 400],
    ['wrong types', { name: 7, nodes: 'many' }, 400],
    ['100,001 nodes', { name: 'x', nodes: Array.from({ length: 100_001 }, (_, i) => node(`n${i}`)) }, 400],
  ])('%s is refused with every problem and nothing stored', async (_what, spec, status) => {
    const before = await fleet.life.valkey.redis.dbsize();
    const answer = await post(JSON.stringify(spec));
    expect(answer.status).toBe(status);
    expect(answer.body.code).toBe('INVALID_SPEC');
    expect(answer.body.problems?.length).toBeGreaterThan(0);
    expect(await fleet.life.valkey.redis.dbsize()).toBe(before);
  });

  it('prototype keys, bytes that are not UTF-8, 10 MB and text that is not JSON are refused; the server goes on', async () => {
    expect(await post('{"name":"x","__proto__":{"polluted":1},"nodes":[]}')).toMatchObject({ status: 400 });
    expect(await post(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]))).toMatchObject({
      status: 400,
      body: { code: 'INVALID_JSON' },
    });
    expect(await post('{nope')).toMatchObject({ status: 400, body: { code: 'INVALID_JSON' } });
    expect(await post('{}', { 'content-type': 'text/plain' })).toMatchObject({ status: 415 });
    const big = await post(`{"name":"${'x'.repeat(10 * 1024 * 1024)}"}`).catch(() => undefined);
    if (big !== undefined) expect(big).toMatchObject({ status: 413, body: { code: 'PAYLOAD_TOO_LARGE' } });
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
    expect((await fleet.client.health()).ok).toBe(true);
  });

  it('R6 a wrong token is 401, an unknown id 404, an illegal transition 409', async () => {
    for (const headers of [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: `Basic ${fleet.token}` },
    ]) {
      const response = await fetch(`${fleet.orchestrators[0]?.url}/api/executions`, {
        headers: headers as Record<string, string>,
      });
      expect(response.status).toBe(401);
    }
    await expect(fleet.client.execution('exe_00000000000000000000000000')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    const id = await submit([{ id: 'a', run: sh('true') }]);
    await ended(id);
    await expect(fleet.client.start(id)).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
    // The status on the wire: a client that knows none of Belay's codes decides by it.
    const statusOf = async (method: string, path: string) => {
      const headers = { authorization: `Bearer ${fleet.token}` };
      const response = await fetch(`${fleet.orchestrators[0]?.url}${path}`, { method, headers });
      return [response.status, ((await response.json()) as { status: number }).status];
    };
    for (const act of ['start', 'pause', 'resume', 'retry'])
      expect([act, ...(await statusOf('POST', `/api/executions/${id}/${act}`))]).toEqual([act, 409, 409]);
    expect(await statusOf('GET', '/api/executions/exe_00000000000000000000000000')).toEqual([404, 404]);
  });
});
