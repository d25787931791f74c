import { hostname } from 'node:os';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { AgentRecord } from '#libs/contracts';
import { ended, running as agentsRunning } from '../support/executions';
import { eventually, processesWith, type Member } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';

const sh = (script: string) => ({ command: [script], shell: true });
const SLEEP = sh('echo ready; exec sleep 600');
const LEASE = {
  BELAY_LEASE_TTL_MS: '4000',
  BELAY_HEARTBEAT_MS: '200',
  BELAY_GRACE_MS: '200',
  BELAY_PROOF_LIMIT_MS: '2000',
};

const { begin, fleet, it } = fleetPerTest();

async function submit(nodes: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes, ...more });
  return execution.id;
}

const running = async (id: string, count: number): Promise<AgentRecord[]> =>
  agentsRunning(fleet.client, id, count, 60_000);

function ownerOf(agent: AgentRecord | undefined): Member {
  const member = fleet.workers.find(({ id }) => id === agent?.owner);
  if (member === undefined) throw new Error('the owner is not of this fleet');
  return member;
}

/** The guardian process of a worker: its child that runs guardian-main. */
function guardianOf(worker: Member): number {
  const pid = readdirSync('/proc').find((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      const isGuardian = readFileSync(`/proc/${entry}/cmdline`, 'latin1').includes('guardian-main');
      const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${entry}/status`, 'latin1'))?.[1];
      return isGuardian && parent === String(worker.process.pid);
    } catch {
      return false;
    }
  });
  if (pid === undefined) throw new Error('no guardian');
  return Number(pid);
}

const signal = (pid: number | undefined, name: NodeJS.Signals): void => void process.kill(pid ?? 0, name);

describe('receipts are true', () => {
  it('R51 R17 an attempt lost with its worker is in every receipt as unconfirmed until somebody sees it dead', async () => {
    await begin({ workers: 2, env: LEASE });
    const node = { id: 'a', labels: { team: 'own' }, backoff: { delayMs: 0 }, run: SLEEP };
    const id = await submit([node], { labels: { team: 'data' } });
    const [first] = await running(id, 1);
    const worker = ownerOf(first);
    const guardian = guardianOf(worker);
    // The agent runs on: no process that could end it is awake.
    signal(guardian, 'SIGSTOP');
    signal(worker.process.pid, 'SIGSTOP');
    await eventually(
      async () =>
        (await fleet.client.agents({ executionId: id, state: ['running'] })).items.some(
          ({ attempt }) => attempt === 2,
        ),
      'the second attempt',
    );
    // A selector that matches the execution and not the node: the execution is stopped as a whole, the lost attempt too.
    const killed = await fleet.client.kill({
      scope: { type: 'selector', selector: 'team=data' },
      latch: false,
    });
    const stopped = await fleet.client.stop(id);
    expect(stopped).toMatchObject({ status: 'failed', receipt: { complete: false } });
    expect(stopped.receipt?.orderId).toBe(killed.orderId);
    const outcomes = async (orderId: string) =>
      Object.fromEntries(
        (await fleet.client.receipt(orderId)).targets.map(({ agentId, outcome }) => [
          agentId.slice(-1),
          outcome,
        ]),
      );
    const orderId = stopped.receipt?.orderId ?? '';
    expect(await outcomes(orderId)).toEqual({ 1: 'unconfirmed', 2: 'killed' });
    const again = await fleet.client.killAgent(first?.id ?? '');
    expect(again).toMatchObject({ complete: false, totals: { total: 1, unconfirmed: 1 } });
    // When it wakes, the worker finds its lease gone, ends the tree, and its proof completes the open receipts.
    signal(guardian, 'SIGCONT');
    signal(worker.process.pid, 'SIGCONT');
    await eventually(async () => (await fleet.client.receipt(orderId)).complete, 'the late proof');
    // By its guardian, which woke first, or by the worker.
    expect(await outcomes(orderId)).toEqual({
      1: expect.stringMatching(/^(killed|already-ended)$/) as string,
      2: 'killed',
    });
    await eventually(async () => (await fleet.client.receipt(again.orderId)).complete, 'the other order');
    expect(processesWith(id)).toEqual([]);
  });

  it('R50 R53 an order past its limit costs its worker nothing else, and reaches nothing that began after its latch was released', async () => {
    await begin({
      workers: 1,
      env: { BELAY_PROOF_LIMIT_MS: '1000', BELAY_HEARTBEAT_MS: '200' },
    });
    const deaf = await submit([
      { id: 'a', graceMs: 60_000, run: sh('trap "" TERM; echo ready; while :; do sleep 0.1; done') },
    ]);
    await running(deaf, 1);
    const [worker] = fleet.workers;
    const asked = fleet.client.kill({ scope: { type: 'all' } });
    // The limit includes the grace of a minute: the test makes it pass now.
    const { redis, keys, scripts } = fleet.life.valkey;
    const settings = {
      channel: keys.eventsChannel,
      controlEvents: 1_000,
      auditKept: 1_000,
      retentionMs: 60_000,
    };
    await eventually(async () => {
      const [id = ''] = await redis.smembers(keys.shard(keys.control, 'orders:open'));
      if (id === '') return false;
      const args = [keys.control, id, JSON.stringify(settings)];
      return (await scripts.json('expireOrder', keys.order(id), args))['state'] === 'incomplete';
    }, 'an order past its limit');
    const killed = await asked;
    expect(killed).toMatchObject({ complete: false, state: 'incomplete', totals: { total: 1, pending: 1 } });
    await fleet.client.releaseLatch(killed.latch?.id ?? '', 'over');
    const next = await submit([{ id: 'a', run: SLEEP }]);
    await running(next, 1);
    const counted = async () =>
      Number(/total_commands_processed:(\d+)/.exec(await fleet.life.valkey.redis.info('stats'))?.[1]);
    const [before, from] = [await counted(), performance.now()];
    const beatAt = async () => (await fleet.life.workers.get(worker?.id ?? '')).lastHeartbeatAt ?? 0;
    const first = await beatAt();
    await eventually(async () => (await beatAt()) - first > 2_000, 'ten more heartbeats');
    const perSecond = ((await counted()) - before) / ((performance.now() - from) / 1_000);
    expect(perSecond).toBeLessThan(2_000);
    expect((await fleet.client.execution(next)).state).toBe('running');
    await fleet.client.kill({ scope: { type: 'all' }, mode: 'immediate', latch: false });
    expect(processesWith(deaf)).toEqual([]);
  });

  it('R17 kill -9 of the worker: its guardian’s proof reaches the record by another worker of the host, and the receipt', async () => {
    await begin({ workers: 2, env: LEASE });
    const id = await submit([{ id: 'a', maxAttempts: 1, run: SLEEP }], { onFailure: 'continue' });
    const [agent] = await running(id, 1);
    signal(ownerOf(agent).process.pid, 'SIGKILL');
    const receipt = await fleet.client.killAgent(agent?.id ?? '');
    const { targets } = await eventually(async () => {
      const now = await fleet.client.receipt(receipt.orderId);
      return now.complete ? now : undefined;
    }, 'the proof');
    expect(targets).toMatchObject([{ outcome: 'killed', report: { proved: true } }]);
    expect(await fleet.client.agent(agent?.id ?? '')).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      report: { proved: true },
    });
    expect(processesWith(id)).toEqual([]);
  });

  it('R17 worker and guardian killed: unconfirmed until the next start on that host has reaped their processes', async () => {
    await begin({ workers: 1, env: LEASE });
    const id = await submit([{ id: 'a', maxAttempts: 1, run: SLEEP }], { onFailure: 'continue' });
    const [agent] = await running(id, 1);
    const worker = ownerOf(agent);
    const guardian = guardianOf(worker);
    signal(guardian, 'SIGSTOP'); // so that the worker cannot start another one in between
    signal(worker.process.pid, 'SIGKILL');
    signal(guardian, 'SIGKILL');
    const receipt = await fleet.client.killAgent(agent?.id ?? '');
    expect(receipt).toMatchObject({ complete: false, state: 'incomplete' });
    expect(processesWith(id)).toHaveLength(1);
    await eventually(
      async () => (await fleet.client.agent(agent?.id ?? '')).state === 'failed',
      'the lease ran out',
    );
    expect(await fleet.client.killAgent(agent?.id ?? '')).toMatchObject({
      complete: false,
      targets: [{ outcome: 'unconfirmed' }],
    });
    const reaper = await fleet.addWorker();
    expect(processesWith(id)).toEqual([]);
    const { targets } = await eventually(async () => {
      const now = await fleet.client.receipt(receipt.orderId);
      return now.complete ? now : undefined;
    }, 'the proof');
    expect(targets).toMatchObject([{ outcome: 'killed', report: { proved: true } }]);
    // The agent lived for seconds after the kill. Nobody measured how many, and nothing shows 0.
    const [{ report, latency } = {}] = targets;
    expect(JSON.stringify([report, latency])).not.toContain('fterMs');
    expect(report?.evidence[0]?.detail).toContain(`the reaper of worker ${reaper.id} on host ${hostname()}`);
  });

  it('R51 R17 a forged proof or record in the data directory says nothing of an agent that lives', async () => {
    await begin({ workers: 2, env: LEASE });
    const id = await submit([{ id: 'a', maxAttempts: 1, run: SLEEP }], { onFailure: 'continue' });
    const [agent] = await running(id, 1);
    const worker = ownerOf(agent);
    const guardian = guardianOf(worker);
    // An agent of the worker's user can do this: remove the record, write a proof, kill worker and guardian.
    const path = (ending: string): string => join(fleet.dir, 'hosts', `${worker.id}.${ending}`);
    const record = readFileSync(path('json'), 'utf8');
    const { containment } = JSON.parse(record) as { containment: string };
    const evidence = containment === 'cgroup' ? ['cgroup-empty', 'descent-empty'] : ['descent-empty'];
    const forged = { workerId: worker.id, containment, processes: [], by: 'guardian', evidence };
    signal(guardian, 'SIGSTOP');
    signal(worker.process.pid, 'SIGKILL');
    signal(guardian, 'SIGKILL');
    rmSync(path('json'));
    writeFileSync(path('new'), JSON.stringify(forged));
    renameSync(path('new'), path('proof'));
    await eventually(() => existsSync(path('proof.unreadable')), 'the forgery set aside');
    await eventually(
      async () => (await fleet.client.agent(agent?.id ?? '')).state === 'failed',
      'the lease ran out',
    );
    expect(await fleet.client.killAgent(agent?.id ?? '')).toMatchObject({
      complete: false,
      targets: [{ outcome: 'unconfirmed' }],
    });
    expect(processesWith(id)).toHaveLength(1);
    // A record that leads a reaper elsewhere is not believed either.
    const { cgroup: _, ...fields } = JSON.parse(record) as { cgroup?: string };
    const altered = { ...fields, containment: 'marks', cookie: 'f'.repeat(32) };
    writeFileSync(path('json'), JSON.stringify(altered), { mode: 0o600 });
    await fleet.addWorker();
    expect(await fleet.client.killAgent(agent?.id ?? '')).toMatchObject({
      complete: false,
      targets: [{ outcome: 'unconfirmed' }],
    });
    expect(processesWith(id)).toHaveLength(1);
    expect(existsSync(path('json'))).toBe(true);
    // With its own record a reaper finds it.
    writeFileSync(path('json'), record, { mode: 0o600 });
    await fleet.addWorker();
    expect(processesWith(id)).toEqual([]);
  });

  it('R27 an end by the guardian’s fence is worker_lost, not an end of its own', async () => {
    await begin({
      workers: 1,
      env: { ...LEASE, BELAY_LEASE_TTL_MS: '8000', BELAY_FENCE_AFTER_MS: '1000' },
    });
    const id = await submit([{ id: 'a', maxAttempts: 1, run: SLEEP }]);
    const [agent] = await running(id, 1);
    const worker = ownerOf(agent);
    signal(worker.process.pid, 'SIGSTOP');
    await eventually(async () => processesWith(id).length === 0, 'the fence');
    signal(worker.process.pid, 'SIGCONT');
    expect(await ended(fleet.client, id)).toMatchObject({ state: 'failed' });
    expect(await fleet.client.agent(agent?.id ?? '')).toMatchObject({
      state: 'failed',
      reason: 'worker_lost',
      error: { code: 'FENCED' },
      report: { proved: true },
    });
  });

  it('R17 R51 a worker that hangs is no reason to wait: another worker of the host reports its guardian’s proof', async () => {
    await begin({ workers: 2, env: LEASE });
    const id = await submit([{ id: 'a', maxAttempts: 1, run: SLEEP }], { onFailure: 'continue' });
    const [agent] = await running(id, 1);
    const worker = ownerOf(agent);
    signal(worker.process.pid, 'SIGSTOP');
    const receipt = await fleet.client.killAgent(agent?.id ?? '');
    const { targets } = await eventually(async () => {
      const now = await fleet.client.receipt(receipt.orderId);
      return now.complete ? now : undefined;
    }, 'the proof');
    expect(targets).toMatchObject([{ outcome: 'killed' }]);
    expect(targets[0]?.report?.evidence[0]?.detail).toContain('silent');
    expect(processesWith(id)).toEqual([]);
    // When it wakes it finds nothing to end, and reports nothing else.
    signal(worker.process.pid, 'SIGCONT');
    await worker.exited;
    expect((await fleet.client.receipt(receipt.orderId)).targets).toEqual(targets);
  });

  it('R51 R17 a worker that wakes after its lease was taken proves the ends that its guardian made', async () => {
    await begin({ workers: 1, env: LEASE });
    const id = await submit([{ id: 'a', maxAttempts: 1, run: SLEEP }]);
    const [agent] = await running(id, 1);
    const worker = ownerOf(agent);
    signal(worker.process.pid, 'SIGSTOP');
    const lost = await eventually(async () => {
      const now = await fleet.client.agent(agent?.id ?? '');
      return now.state === 'failed' ? now : undefined;
    }, 'the lease ran out');
    expect(lost.report).toBeUndefined();
    expect(processesWith(id)).toEqual([]);
    signal(worker.process.pid, 'SIGCONT');
    // Its own end of the attempt is `failed` too: the same end again, but this one with proof.
    await worker.exited;
    expect(await fleet.client.agent(agent?.id ?? '')).toMatchObject({ report: { proved: true } });
  });

  it('R27 a worker cut off from the server ends its own agents before its lease can be granted again', async () => {
    const leaseMs = 8_000;
    await begin({ workers: 1, env: { ...LEASE, BELAY_LEASE_TTL_MS: String(leaseMs) } });
    const deaf = sh(`trap '' TERM; while :; do sleep 0.05; done`);
    const id = await submit([
      { id: 'a', run: deaf },
      { id: 'b', run: SLEEP },
    ]);
    await running(id, 2);
    await fleet.server.kill9();
    const cutAt = performance.now();
    await eventually(async () => processesWith(id).length === 0, 'the end of its agents');
    // The lease began with a heartbeat before the cut, so it cannot have run out sooner than this.
    expect(performance.now() - cutAt).toBeLessThan(leaseMs);
    await fleet.server.restart();
  });

  it('R10 each node’s own grace counts where an order names none', async () => {
    await begin({ workers: 1, env: LEASE });
    const id = await submit([
      {
        id: 'long',
        graceMs: 5_000,
        run: sh(`trap 'sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.05; done`),
      },
      { id: 'short', graceMs: 50, run: sh(`trap '' TERM; echo ready; while :; do sleep 0.05; done`) },
    ]);
    const agents = await running(id, 2);
    for (const { id: agentId } of agents)
      await eventually(async () => (await fleet.client.logs(agentId)).lines.length > 0, 'its trap');
    const { receipt } = await fleet.client.stop(id);
    const escalated = Object.fromEntries(
      (receipt?.targets ?? []).map(({ nodeId, report }) => [nodeId, report?.escalated]),
    );
    expect(escalated).toEqual({ long: false, short: true });
    expect(
      (await fleet.life.agents.list({ executionId: id })).find(({ nodeId }) => nodeId === 'long')?.exitCode,
    ).toBe(7);
  });

  it('R50 a second kill of everything reaches agents that began after the first, which is still open', async () => {
    await begin({ workers: 1, env: LEASE });
    const deaf = await submit([
      { id: 'deaf', run: sh(`trap '' TERM; echo ready; while :; do sleep 0.05; done`) },
    ]);
    const [agent] = await running(deaf, 1);
    await eventually(async () => (await fleet.client.logs(agent?.id ?? '')).lines.length > 0, 'its trap');
    const first = await fleet.client.killWithoutWaiting({
      scope: { type: 'execution', executionId: deaf },
      graceMs: 3_000,
    });
    const later = await submit([{ id: 'later', run: SLEEP }]);
    await running(later, 1);
    const second = await fleet.client.kill({ scope: { type: 'all' }, latch: false, graceMs: 100 });
    expect(second).toMatchObject({ complete: true, totals: { total: 2, killed: 2 } });
    expect(second.orderId).not.toBe(first.orderId);
    // The shorter grace counts for both.
    expect(await fleet.client.receipt(first.orderId)).toMatchObject({
      complete: true,
      totals: { killed: 1 },
    });
    expect([...processesWith(deaf), ...processesWith(later)]).toEqual([]);
  });

  it('R43 an end is stored however long the server refuses to write, and whatever the agent said', async () => {
    await begin({ workers: 1, env: LEASE });
    const says = (line: string) => sh(`echo '${line}' >&3; echo ready; sleep 1`);
    const id = await submit([
      { id: 'plain', run: sh('sleep 1') },
      { id: 'rich', run: says('{"type":"cost","usd":1e300}') },
      {
        id: 'deep',
        run: sh(
          `node -e 'require("fs").writeSync(3, JSON.stringify({type:"result",value:1}).replace("1", "[".repeat(2e5) + "]".repeat(2e5)) + "\\n")'`,
        ),
      },
    ]);
    await running(id, 2);
    const { redis } = fleet.life.valkey;
    const [, memory] = (await redis.config('GET', 'maxmemory')) as [string, string];
    await redis.config('SET', 'maxmemory', '1');
    await eventually(async () => processesWith(id).length === 0, 'all ended');
    await redis.config('SET', 'maxmemory', memory);
    expect(await ended(fleet.client, id)).toMatchObject({
      state: 'completed',
      live: 0,
      nodes: { completed: 3 },
    });
  });
});

describe('drill and armed', () => {
  it('R55 a drill kills canaries that resist on every worker over the real path, and keeps the result', async () => {
    await begin({ workers: 2, env: LEASE });
    const report = await fleet.client.drill();
    expect(report.items.map(({ detail }) => detail)).toEqual([undefined, undefined]);
    expect(report.passed).toBe(true);
    expect(report.items.map(({ workerId }) => workerId).sort()).toEqual(
      fleet.workers.map(({ id }) => id).sort(),
    );
    for (const { canaries, orderId } of report.items) {
      expect(canaries.map(({ name, outcome }) => [name, outcome])).toEqual([
        ['deaf', 'killed'],
        ['double-fork', 'killed'],
        ['frozen', 'killed'],
        ['forking', 'killed'],
      ]);
      expect(canaries.find(({ name }) => name === 'deaf')?.escalated).toBe(true);
      expect(await fleet.client.receipt(orderId ?? '')).toMatchObject({
        complete: true,
        totals: { killed: 4 },
      });
    }
    const kept = (await fleet.client.drills()).items;
    expect(kept.map(({ last }) => last?.passed)).toEqual([true, true]);
    expect((await fleet.client.audit()).items.filter(({ act }) => act === 'drill.passed')).toHaveLength(2);
  });

  it('R55 a drill of a latched worker does not pass and says why; nothing is left', async () => {
    await begin({ workers: 1, env: LEASE });
    const workerId = fleet.workers[0]?.id ?? '';
    await fleet.client.engageLatch({ scope: { type: 'all' } });
    const report = await fleet.client.drill(workerId);
    expect(report).toMatchObject({
      passed: false,
      items: [{ workerId, passed: false, detail: expect.stringContaining('latch') as string }],
    });
    expect(processesWith(`BELAY_WORKER_ID=${workerId}`)).toEqual([]);
  });

  it('R55 armed: every guard answers a nonce; one that cannot hear is named within 2 s', async () => {
    await begin({ workers: 2, env: LEASE });
    expect(await fleet.client.armed()).toMatchObject({
      armed: true,
      workers: [{ armed: true, guardian: true }, { armed: true }],
    });
    const deaf = fleet.workers[0] as Member;
    // A process that exists and does nothing would end no tree.
    const guardian = guardianOf(deaf);
    signal(guardian, 'SIGSTOP');
    const unguarded = await fleet.client.armed();
    signal(guardian, 'SIGCONT');
    expect(unguarded.armed).toBe(false);
    expect(unguarded.workers.find(({ workerId }) => workerId === deaf.id)).toMatchObject({
      armed: false,
      guardian: false,
      detail: 'it obeys, but its guardian does not answer',
    });
    await eventually(async () => (await fleet.client.armed()).armed, 'the guardian’s answer');
    signal(deaf.process.pid, 'SIGSTOP');
    const { armed, workers } = await fleet.client.armed();
    signal(deaf.process.pid, 'SIGCONT');
    expect(armed).toBe(false);
    expect(workers.find(({ workerId }) => workerId === deaf.id)).toMatchObject({
      armed: false,
      detail: 'no answer within 2000 ms',
    });
    expect(workers.filter(({ armed: one }) => one)).toHaveLength(1);
  });
});

describe('without the server', () => {
  async function askLocally(worker: Member, request: object): Promise<Record<string, unknown>> {
    const socket = connect(join(fleet.dir, 'workers', `${worker.id}.sock`));
    socket.setEncoding('utf8');
    socket.write(`${JSON.stringify(request)}\n`);
    let text = '';
    for await (const chunk of socket) text += chunk as string;
    return JSON.parse(text) as Record<string, unknown>;
  }

  it('R55 break-glass kills and proves with the server dead, keeps the worker from new work, and is told once the server is back', async () => {
    await begin({ workers: 1, env: LEASE, server: { appendonly: true } });
    const worker = fleet.workers[0] as Member;
    const id = await submit([
      { id: 'a', run: SLEEP },
      { id: 'b', run: SLEEP },
    ]);
    await running(id, 2);
    await fleet.server.kill9();
    const receipt = await askLocally(worker, {
      scope: { type: 'all' },
      mode: 'immediate',
      by: 'root at the machine',
      note: 'fire',
    });
    expect(receipt).toMatchObject({
      complete: true,
      holding: true,
      targets: [{ outcome: 'killed', report: { proved: true } }, { outcome: 'killed' }],
    });
    expect(processesWith(id)).toEqual([]);
    await fleet.server.restart();
    expect(await ended(fleet.client, id)).toMatchObject({ state: 'stopped', reason: 'killswitch' });
    const { items } = await eventually(async () => {
      const latches = await fleet.client.latches();
      return latches.items.length === 1 ? latches : undefined;
    }, 'its latch');
    expect(items[0]).toMatchObject({
      scope: { type: 'worker', workerId: worker.id },
      by: 'root at the machine',
    });
    const act = await eventually(
      async () => (await fleet.client.audit()).items.find((entry) => entry.act === 'break-glass'),
      'the audit entry',
    );
    expect(act).toMatchObject({ by: 'root at the machine', note: 'fire', outcomes: { killed: 2 } });
    expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
  });

  it('bad requests on the local socket are answered with every problem', async () => {
    await begin({ workers: 1, env: LEASE });
    const worker = fleet.workers[0] as Member;
    expect(await askLocally(worker, { mode: 'soon' })).toMatchObject({
      code: 'INVALID_REQUEST',
      problems: expect.arrayContaining([
        expect.objectContaining({ path: 'scope' }),
        expect.objectContaining({ path: 'mode' }),
      ]) as unknown,
    });
  });
});

describe('audit', () => {
  it('R55 the actor, act, target and reason are kept, and a change of the log or of a receipt shows', async () => {
    await begin({ workers: 1, env: LEASE });
    const id = await submit([{ id: 'a', run: SLEEP }]);
    await running(id, 1);
    const receipt = await fleet.client.kill({ scope: { type: 'all' }, note: 'red button' });
    await fleet.client.releaseLatch(receipt.latch?.id ?? '', 'false alarm');
    const { items } = await fleet.client.audit();
    expect(items.map(({ act }) => act)).toEqual(['latch.released', 'order.complete', 'order.open']);
    expect(items[2]).toMatchObject({
      kind: 'kill',
      scope: { type: 'all' },
      by: 'admin',
      note: 'red button',
      latchId: receipt.latch?.id,
    });
    expect(items[1]).toMatchObject({
      orderId: receipt.orderId,
      outcomes: { killed: 1 },
      digest: receipt.digest,
    });
    expect(await fleet.client.verifyAudit()).toMatchObject({
      intact: true,
      entries: 3,
      receipts: 1,
      head: items[0]?.hash,
    });

    const { redis, keys } = fleet.life.valkey;
    const targets = keys.orderTargets(receipt.orderId);
    const [[agentId, text]] = Object.entries(await redis.hgetall(targets)) as [[string, string]];
    await redis.hset(targets, agentId, text.replace('"escalated":false', '"escalated":true'));
    expect(await fleet.client.verifyAudit()).toMatchObject({
      intact: false,
      faults: [{ fault: `the receipt of ${receipt.orderId} was changed` }],
    });
    await redis.hset(targets, agentId, text);
    const log = keys.shard(keys.control, 'audit');
    const rows = await redis.xrange(log, '-', '+');
    await redis.xdel(log, rows[1]?.[0] ?? '');
    expect(await fleet.client.verifyAudit()).toMatchObject({
      intact: false,
      faults: [
        { fault: 'entry 3 does not follow from the one before it' },
        {
          fault: `the state of ${receipt.orderId} was changed: it is complete, the log says open`,
        },
      ],
    });
  });
});
