import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BelayEvent } from '#libs/contracts';
import { decodeEvent } from '#libs/lifecycle';
import { ended, ready as agentsReady } from '../support/executions';
import { eventually, processesWith } from '../support/fleet';
import { procEntry } from '../support/proc';
import { guardianOf, send } from '../faults/processes';
import { fleetPerTest } from '../support/own-fleet';

const run = promisify(execFile);
const sh = (script: string) => ({ command: [script], shell: true });
const LEASE = { BELAY_LEASE_TTL_MS: '4000', BELAY_HEARTBEAT_MS: '300', BELAY_GRACE_MS: '300' };

const { begin, fleet, it } = fleetPerTest();

async function submit(nodes: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes, ...more });
  return execution.id;
}

const ready = async (id: string, count: number) => agentsReady(fleet.client, id, count);

/** The state that each record should have by its events alone. */
function replay(events: readonly Omit<BelayEvent, 'id'>[]): Record<string, string> {
  const states: Record<string, string> = {};
  for (const event of events) {
    if (event.to === undefined) continue;
    const id =
      event.entity === 'node' ? event.nodeId : event.entity === 'agent' ? event.agentId : 'execution';
    states[`${event.entity} ${id}`] = event.to;
  }
  return states;
}

it('R3 eight processes race 400 transitions of one execution: each has exactly one winner', async () => {
  await begin({ workers: 0 });
  const id = await submit([{ id: 'a', run: sh('true') }]);
  const { version } = await fleet.life.executions.get(id);
  const last = version + 400;
  const racers = await Promise.all(
    Array.from({ length: 8 }, async () =>
      run(process.execPath, [join(__dirname, '../fixtures/racer.cjs'), fleet.server.url, id, String(last)]),
    ),
  );
  const won = racers.map(({ stdout }) => JSON.parse(stdout) as number[]);
  expect(won.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 400 }, (_, i) => version + i));
  expect(won.filter((mine) => mine.length > 0).length).toBeGreaterThan(1);
  const events = (await fleet.life.executions.events(id, '0-0')).filter((e) =>
    /^execution\.(paused|running)$/.test(e.type),
  );
  expect(events).toHaveLength(400 + 1);
});

it('R4 R25 kill -9 of the server, the orchestrator and a worker: nothing acknowledged is lost, and every state has its event', async () => {
  await begin({ workers: 2, env: LEASE, server: { appendonly: true } });
  const second = await fleet.addOrchestrator();
  const accepted: string[] = [];
  const submitSome = async (): Promise<void> => {
    for (let i = 0; i < 15; i++) {
      const id = await submit([
        { id: 'a', run: sh('sleep 0.05') },
        { id: 'b', dependsOn: ['a'], run: sh('sleep 0.05') },
      ]).catch(() => undefined);
      if (id !== undefined) accepted.push(id);
    }
  };
  await submitSome();
  const during = submitSome();
  await fleet.server.kill9();
  await fleet.server.restart();
  await during;
  fleet.orchestrators[0]?.process.kill('SIGKILL');
  fleet.workers[0]?.process.kill('SIGKILL');
  expect(accepted.length).toBeGreaterThanOrEqual(15);
  const ends = await eventually(
    async () => {
      // The connection of this test is cut too.
      const records = await Promise.all(accepted.map(async (id) => fleet.life.executions.get(id))).catch(
        () => [],
      );
      return (
        records.length > 0 &&
        records.every((record) => ['completed', 'failed', 'stopped'].includes(record.state)) &&
        records
      );
    },
    'the end of every accepted execution',
    90_000,
  );
  expect(ends.map((record) => record.state)).toEqual(accepted.map(() => 'completed'));
  for (const id of accepted) {
    const events = await fleet.life.executions.events(id, '0-0');
    expect(events.map((event) => event.seq)).toEqual(events.map((_, i) => i + 1));
    const stored: Record<string, string> = {
      'execution execution': (await fleet.life.executions.get(id)).state,
    };
    for (const node of (await fleet.life.executions.nodes(id)).items) stored[`node ${node.id}`] = node.state;
    for (const agent of await fleet.life.agents.list({ executionId: id }))
      stored[`agent ${agent.id}`] = agent.state;
    expect(replay(events)).toEqual(stored);
  }
  expect(second.process.exitCode).toBeNull();
});

it('R4 kill -9 of the server in the middle of a storm of transitions, eight times: each record has the state of its events', async () => {
  await begin({ workers: 0, server: { appendonly: true } });
  const ids = await Promise.all(
    Array.from({ length: 6 }, async () => submit([{ id: 'a', run: sh('true') }])),
  );
  const storm = new AbortController();
  let moved = 0;
  const movers = ids.map(async (id) => {
    while (!storm.signal.aborted) {
      // Refused when the other move was the one whose reply was lost; unknown when the server was away for too long.
      const moves = [
        async () => fleet.life.executions.transition(id, 'paused'),
        async () => fleet.life.executions.transition(id, 'running'),
      ];
      for (const move of moves)
        await move()
          .then(() => moved++)
          .catch(() => undefined);
    }
  });
  try {
    for (let kills = 0; kills < 8; kills++) {
      const before = moved;
      await eventually(async () => moved > before + 50, 'moves under way');
      await fleet.server.kill9();
      await fleet.server.restart();
      for (const id of ids) {
        const [record, events] = await eventually(async () => {
          // Both at one moment: moves go on.
          const all = await fleet.life.valkey.redis
            .multi()
            .hmget(fleet.life.valkey.keys.execution(id), 'state', 'seq')
            .xrevrange(fleet.life.valkey.keys.execution(id, 'events'), '+', '-', 'COUNT', 200)
            .exec()
            .catch(() => undefined);
          const [fields, rows] = (all ?? []).map(([, reply]) => reply) as [string[]?, [string, string[]][]?];
          return fields?.[0] !== undefined && rows !== undefined && ([fields, rows] as const);
        }, 'its record');
        const kept = events.map(([, values]) => decodeEvent('events', id, values[1] ?? '')).toReversed();
        const last = kept.filter(({ entity }) => entity === 'execution').at(-1);
        expect(last?.to).toBe(record[0]);
        expect(kept.at(-1)?.seq).toBe(Number(record[1]));
        const first = kept[0]?.seq ?? 0;
        expect(kept.map(({ seq }) => seq)).toEqual(kept.map((_, i) => first + i));
      }
    }
  } finally {
    storm.abort();
    await Promise.all(movers);
  }
});

it('R17 R26 R27 kill -9 of a worker: its trees die with it, the attempt is taken over exactly once, elsewhere', async () => {
  await begin({ workers: 2, env: LEASE });
  const id = await submit([
    {
      id: 'a',
      run: sh('setsid sleep 600 & echo ready; sleep 600'),
      maxAttempts: 2,
      backoff: { type: 'fixed', delayMs: 0 },
    },
  ]);
  const [first] = await ready(id, 1);
  const victim = fleet.workers.find((worker) => worker.id === first?.owner);
  const before = processesWith(`BELAY_AGENT_ID=${first?.id}`);
  expect(before.length).toBeGreaterThanOrEqual(2);
  victim?.process.kill('SIGKILL');
  await eventually(
    async () => processesWith(`BELAY_AGENT_ID=${first?.id}`).length === 0,
    'the end of its trees',
    5_000,
  );
  const [next] = await eventually(
    async () => {
      const agents = (await fleet.client.agents({ executionId: id })).items.filter(
        (agent) => agent.attempt === 2 && agent.state === 'running',
      );
      return agents.length > 0 && agents;
    },
    'the second attempt',
    30_000,
  );
  expect(next?.owner).not.toBe(first?.owner);
  expect(next?.epoch).toBeGreaterThan(first?.epoch ?? 0);
  expect(await fleet.client.agent(first?.id ?? '')).toMatchObject({ state: 'failed', reason: 'worker_lost' });
  const events = await fleet.life.executions.events(id, '0-0');
  expect(events.filter((e) => e.type === 'agent.spawning').map((e) => e.attempt)).toEqual([1, 2]);
  await expect(
    fleet.life.agents.finish(
      { agentId: first?.id ?? '', owner: first?.owner ?? '', epoch: first?.epoch ?? 0 },
      { state: 'completed' },
    ),
  ).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
  // The guardian recorded the trees that it ended; another worker of the host finds the record and vouches for the lost
  // attempt.
  const proof = await eventually(
    async () => (await fleet.client.agent(first?.id ?? '')).report,
    'the proof of its end',
    20_000,
  );
  expect(proof).toMatchObject({ proved: true, survivors: [] });
  expect((await fleet.client.stop(id)).receipt).toMatchObject({ complete: true, totals: { killed: 1 } });
});

it('R52 kills are obeyed although every doorbell subscription was cut when they rang', async () => {
  await begin({ workers: 2, env: LEASE });
  for (let i = 0; i < 10; i++) {
    const id = await submit([
      { id: 'a', run: sh('echo ready; sleep 600') },
      { id: 'b', run: sh('echo ready; sleep 600') },
    ]);
    await ready(id, 2);
    const [cut, stop] = await Promise.all([
      fleet.life.valkey.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'),
      fleet.client.stop(id),
    ]);
    expect(Number(cut)).toBeGreaterThan(0);
    expect(stop).toMatchObject({ status: 'stopped', receipt: { complete: true, totals: { killed: 2 } } });
    expect(processesWith(id)).toEqual([]);
  }
});

it('R51 a worker that is gone with its guardian leaves a receipt that says unconfirmed, and a failed execution', async () => {
  await begin({ workers: 1, env: { ...LEASE, BELAY_PROOF_LIMIT_MS: '2000' } });
  const id = await submit([{ id: 'a', run: sh('echo ready; exec sleep 600'), maxAttempts: 1 }]);
  const [agent] = await ready(id, 1);
  const worker = fleet.workers[0];
  const guardian = guardianOf(worker?.process.pid ?? 0);
  expect(guardian).toBeDefined();
  // Suspended first, so that the worker cannot start another one in between.
  send(guardian, 'SIGSTOP');
  worker?.process.kill('SIGKILL');
  send(guardian, 'SIGKILL');
  const lost = await fleet.client.stop(id);
  expect(lost).toMatchObject({ receipt: { complete: false, totals: { killed: 0 } } });
  expect(lost.receipt?.missing).toEqual([{ agentId: agent?.id, workerId: worker?.id }]);
  // The limit may pass before the lease has run out, which names the owner.
  const orderId = lost.receipt?.orderId ?? '';
  await eventually(
    async () => (await fleet.client.receipt(orderId)).totals.unconfirmed === 1,
    'the receipt to say unconfirmed',
  );
  expect(await ended(fleet.client, id)).toMatchObject({ state: 'failed' });
  // The report is true: no process existed that could have ended the tree.
  expect(processesWith(id)).toHaveLength(1);
  await fleet.addWorker();
  expect(processesWith(id)).toEqual([]);
  const receipt = await eventually(async () => {
    const now = await fleet.client.receipt(orderId);
    return now.complete && now;
  }, 'the proof of the worker that ended it');
  expect(receipt.targets).toMatchObject([
    { agentId: agent?.id, outcome: 'killed', report: { proved: true } },
  ]);
});

it('R17 a guardian that is killed is told and started anew, and the agents of its worker live and die as before', async () => {
  await begin({ workers: 1, env: LEASE });
  const id = await submit([{ id: 'a', run: sh('echo ready; exec sleep 600'), maxAttempts: 1 }]);
  await ready(id, 1);
  const [worker] = fleet.workers;
  const pid = worker?.process.pid ?? 0;
  const first = guardianOf(pid);
  send(first, 'SIGKILL');
  await eventually(() => {
    const now = guardianOf(pid);
    return now !== undefined && now !== first && now;
  }, 'another guardian');
  const [record] = (await fleet.client.workers()).items;
  await eventually(async () => {
    const text = await (await fetch(`http://127.0.0.1:${record?.httpPort}/metrics`)).text();
    return /^belay_worker_guardian_restarts 1$/m.test(text);
  }, 'the restart in the metrics');
  expect(processesWith(id)).toHaveLength(1);
  // The new guardian knows the trees that began before it.
  worker?.process.kill('SIGKILL');
  await eventually(() => processesWith(id).length === 0, 'the end of the tree', 10_000);
});

describe('draining', () => {
  it('R41 R42 R43 R49 a worker drains: admission closes, work in flight is stored, health says so, the exit code is 0', async () => {
    await begin({ workers: 1, env: { ...LEASE, BELAY_STOP_TIMEOUT_MS: '20000' } });
    const id = await submit(
      [
        { id: 'a', run: sh(`echo ready; until [ -e ${fleet.dir}/go ]; do sleep 0.05; done`) },
        { id: 'b', dependsOn: ['a'], run: sh('true') },
      ],
      {},
    );
    await ready(id, 1);
    const [record] = (await fleet.client.workers()).items;
    const health = async (path: string) =>
      (await fetch(`http://127.0.0.1:${record?.httpPort}${path}`)).status;
    expect(await Promise.all(['/health', '/health/live', '/health/ready'].map(health))).toEqual([
      200, 200, 200,
    ]);
    const worker = fleet.workers[0];
    worker?.process.kill('SIGTERM');
    worker?.process.kill('SIGINT');
    await eventually(
      async () => (await fleet.client.workers()).items[0]?.state === 'draining',
      'draining in the record',
    );
    expect(await Promise.all(['/health', '/health/live', '/health/ready'].map(health))).toEqual([
      200, 200, 503,
    ]);
    const late = await submit([{ id: 'late', run: sh('true') }]);
    const [agent] = (await fleet.client.agents({ executionId: id })).items;
    await run('touch', [join(fleet.dir, 'go')]);
    expect(await worker?.exited).toBe(0);
    expect(await fleet.client.agent(agent?.id ?? '')).toMatchObject({ state: 'completed' });
    expect((await fleet.client.execution(late)).nodes).toMatchObject({ ready: 1, running: 0 });
    expect((await fleet.client.agents({ executionId: late })).items).toEqual([]);
    await fleet.addWorker();
    // Nodes that had not started are handed over again.
    expect((await fleet.client.waitForEnd(late, { giveUpAfterMs: 60_000 })).state).toBe('completed');
    expect((await ended(fleet.client, id)).state).toBe('completed');
  });

  it('R44 past its limit a drain stops the agents that are left, marks them, and exits with 3', async () => {
    await begin({ workers: 1, env: { ...LEASE, BELAY_STOP_TIMEOUT_MS: '300' } });
    const id = await submit([
      { id: 'a', run: sh('echo ready; sleep 600'), maxAttempts: 2, backoff: { type: 'fixed', delayMs: 0 } },
    ]);
    const [agent] = await ready(id, 1);
    fleet.workers[0]?.process.kill('SIGTERM');
    expect(await fleet.workers[0]?.exited).toBe(3);
    expect(processesWith(id)).toEqual([]);
    expect(await fleet.client.agent(agent?.id ?? '')).toMatchObject({
      state: 'failed',
      reason: 'server_shutdown',
    });
    expect((await fleet.client.nodes(id)).items[0]).toMatchObject({ state: 'ready', attempt: 2 });
  });

  it('R45 R49 an orchestrator refuses new work while it drains, ends open streams, and exits with 0', async () => {
    await begin({ workers: 1, env: LEASE });
    const id = await submit([{ id: 'a', run: sh('echo ready; sleep 600') }]);
    await ready(id, 1);
    const url = fleet.orchestrators[0]?.url ?? '';
    const stream = await fetch(`${url}/api/executions/${id}/events`, {
      headers: { authorization: `Bearer ${fleet.token}` },
    });
    const text = stream.text();
    fleet.orchestrators[0]?.process.kill('SIGTERM');
    expect(await text).toContain('event: server_shutting_down');
    expect(await fleet.orchestrators[0]?.exited).toBe(0);
    await fleet.addOrchestrator();
    expect((await fleet.life.executions.get(id)).state).toBe('running');
  });

  it('R46 two signals at once are one drain, of an orchestrator too: both programs exit with 0', async () => {
    await begin({ workers: 1, env: { ...LEASE, BELAY_LOG_LEVEL: 'debug' } });
    const members = [...fleet.orchestrators, ...fleet.workers];
    // Stopped until both are pending: else an orchestrator may have ended before this process gives the second.
    for (const { process: child } of members) {
      child.kill('SIGSTOP');
      await eventually(() => procEntry(child.pid ?? 0)?.state === 'T', 'the program stands still');
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGCONT'] as const) child.kill(signal);
    }
    // The end of the children's own channel to their parent is not a third signal.
    expect(await Promise.all(members.map(async ({ exited }) => exited))).toEqual([0, 0]);
    for (const { log } of members) expect(log()).toMatch(/SIG(INT|TERM) again: already draining/);
  });
});

it('R47 a drain with the server gone names each phase it leaves behind, and ends with nothing left', async () => {
  await begin({ workers: 1, env: LEASE });
  const id = await submit([{ id: 'a', run: sh("trap '' TERM; echo ready; sleep 600; sleep 600") }]);
  await ready(id, 1);
  const [worker] = fleet.workers;
  await fleet.server.kill9();
  worker?.process.kill('SIGTERM');
  // Patience, grace and 20 s for the rest: the overall deadline runs from the signal.
  expect(await worker?.exited).toBe(1);
  const log = worker?.log() ?? '';
  expect(log).toContain('the drain goes on without its phase \\"announce\\"');
  expect(log).toMatch(/"phase":"[a-z ]+".*the drain is stuck; exiting/);
  expect(processesWith(id)).toEqual([]);
});
