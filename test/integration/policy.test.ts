import { writeFileSync } from 'node:fs';
import { createClient } from '#libs/client';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';
import { useFleetAndFolder } from '../support/fleet-folder';

/** A spec's promises about attempts, time, keys and retention, tested on real processes. */
const LEASE_MS = 3_000;
const RETENTION_MS = 2_000;
const ENV = {
  BELAY_LEASE_TTL_MS: String(LEASE_MS),
  BELAY_HEARTBEAT_MS: '200',
  BELAY_GRACE_MS: '300',
  BELAY_RETENTION: '1h',
};

let fleet: Fleet;
const { file, lines } = useFleetAndFolder(ENV, (started) => (fleet = started));

const sh = (script: string) => ({ command: ['/bin/sh', '-c', script] });

async function submit(nodes: object[], more: object = {}): Promise<string> {
  return (await fleet.client.createExecution({ name: 'policy', nodes, ...more })).execution.id;
}

const ended = async (id: string) => fleet.client.waitForEnd(id, { giveUpAfterMs: 60_000 });
const attemptsOf = async (id: string) =>
  (await fleet.life.agents.list({ executionId: id })).map(({ attempt }) => attempt).toSorted((a, b) => a - b);

it('R33 three attempts unless the spec says otherwise, the first counts; each waits longer than the one before', async () => {
  const id = await submit([
    {
      id: 'a',
      backoff: { type: 'exponential', delayMs: 1_000, maxMs: 1_700, jitter: 0 },
      run: sh(`cut -d' ' -f1 /proc/uptime >>${file('attempts')}; exit 7`),
    },
  ]);
  expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'EXIT', nodeId: 'a' } });
  expect(await attemptsOf(id)).toEqual([1, 2, 3]);
  const [first = 0, second = 0, third = 0] = lines('attempts').map(Number);
  // 1 s, then the cap of 1.7 s. /proc/uptime has steps of 10 ms, and a queue may be later but never earlier.
  expect(second - first).toBeGreaterThanOrEqual(0.99);
  expect(third - second).toBeGreaterThanOrEqual(1.69);
});

it('R33 a first attempt waits for its delay, and a stop ends the wait', async () => {
  const stamp = (name: string) => sh(`cut -d' ' -f1 /proc/uptime >>${file(name)}`);
  const id = await submit([
    { id: 'a', run: stamp('before') },
    { id: 'b', dependsOn: ['a'], delayMs: 1_000, run: stamp('after') },
    { id: 'c', dependsOn: ['b'], delayMs: 600_000, run: stamp('never') },
  ]);
  await eventually(
    async () =>
      (await fleet.client.nodes(id)).items.some((node) => node.id === 'c' && node.state === 'ready'),
    'the wait of the last',
  );
  expect(Number(lines('after')[0]) - Number(lines('before')[0])).toBeGreaterThanOrEqual(0.99);
  expect(await fleet.client.stop(id)).toMatchObject({ status: 'stopped', receipt: { complete: true } });
  expect((await fleet.client.nodes(id)).items.map(({ state }) => state)).toEqual([
    'completed',
    'completed',
    'cancelled',
  ]);
  expect(await fleet.life.agents.list({ executionId: id })).toHaveLength(2);
});

it('R33 a stop ends nodes that wait for their next attempt at once: none of them runs again', async () => {
  const id = await submit([
    {
      id: 'a',
      backoff: { type: 'fixed', delayMs: 600_000, maxMs: 600_000, jitter: 0 },
      run: sh(`echo ran >>${file('backoff')}; exit 7`),
    },
    { id: 'b', dependsOn: ['a'], run: sh('true') },
  ]);
  await eventually(
    async () => (await fleet.client.nodes(id)).items.some((node) => node.id === 'a' && node.attempt === 2),
    'the wait for the second attempt',
  );
  expect((await fleet.client.execution(id)).state).toBe('running');
  expect(await fleet.client.stop(id)).toMatchObject({ status: 'stopped', receipt: { complete: true } });
  expect((await fleet.client.nodes(id)).items.map(({ state }) => state)).toEqual(['cancelled', 'cancelled']);
  // Its job may still be in the queue; a hand-over now is refused.
  const job = { agentId: `agt_${id.slice(4)}-0-2`, executionId: id, nodeId: 'a', attempt: 2 };
  expect(await fleet.life.agents.claim(job, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ', 't')).toMatchObject({
    claimed: false,
  });
  expect(lines('backoff')).toEqual(['ran']);
});

it('R39 a result said after its time was up is refused, although the agent ends well', async () => {
  const late = `trap 'echo "{\\"type\\":\\"result\\",\\"value\\":\\"late\\"}" >&3; exit 0' TERM; echo ready; while :; do sleep 0.05; done`;
  const node = await submit([{ id: 'a', timeoutMs: 300, maxAttempts: 1, run: sh(late) }]);
  expect(await ended(node)).toMatchObject({ state: 'failed', error: { code: 'TIMEOUT', nodeId: 'a' } });
  const whole = await submit([{ id: 'a', run: sh(late) }], { timeoutMs: 500 });
  expect(await ended(whole)).toMatchObject({ state: 'stopped', reason: 'timeout' });
  for (const [id, state] of [
    [node, 'failed'],
    [whole, 'cancelled'],
  ] as const) {
    const record = await fleet.life.executions.node(id, 'a');
    expect(record.state).toBe(state);
    expect(record).not.toHaveProperty('result');
    const [agent] = await fleet.life.agents.list({ executionId: id });
    // It ended with 0, by itself, within the grace: only its result is refused.
    expect(agent).toMatchObject({ exitCode: 0, report: { proved: true, escalated: false } });
    await expect(
      fleet.life.agents.finish(
        { agentId: agent?.id ?? '', owner: agent?.owner ?? '', epoch: agent?.epoch ?? 0 },
        { state: 'completed', result: 'late' },
      ),
    ).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
  }
});

it('R22 a paused execution outlives its deadline, its timeout and a lease; resume re-runs nothing', async () => {
  const go = file('go');
  const id = await submit(
    [
      {
        id: 'a',
        timeoutMs: 2_500,
        run: sh(`echo ran >>${file('paused')}; until [ -e ${go} ]; do sleep 0.05; done`),
      },
      { id: 'b', dependsOn: ['a'], run: sh(`echo b >>${file('paused')}`) },
    ],
    { timeoutMs: 3_500 },
  );
  await eventually(async () => processesWith(id).length > 0, 'its process');
  const [before] = await eventually(async () => {
    const { items } = await fleet.client.agents({ executionId: id, state: ['running'] });
    return items.length === 1 && items;
  }, 'running');
  await fleet.client.pause(id, { mode: 'freeze' });
  const frozenAt = performance.now();
  await eventually(
    async () => performance.now() - frozenAt > LEASE_MS + 1_500,
    'longer than deadline, timeout and lease',
    20_000,
  );
  expect(await fleet.client.execution(id)).toMatchObject({ state: 'paused', live: 1 });
  const [during] = (await fleet.client.agents({ executionId: id })).items;
  expect(during).toMatchObject({
    id: before?.id,
    state: 'running',
    owner: before?.owner,
    epoch: before?.epoch,
  });
  await fleet.client.resume(id);
  writeFileSync(go, '');
  expect(await ended(id)).toMatchObject({ state: 'completed', nodes: { completed: 2 } });
  expect(lines('paused')).toEqual(['ran', 'b']);
  expect(await attemptsOf(id)).toEqual([1, 1]);
});

it('R30 one key, two orchestrators, forty submits at once: one execution; another spec is a conflict that names both', async () => {
  const other = await fleet.addOrchestrator();
  const clients = [fleet.client, createClient({ url: other.url ?? '', token: fleet.token })];
  const spec = {
    name: 'once',
    idempotencyKey: 'once-1',
    nodes: [{ id: 'a', run: sh(`echo ran >>${file('once')}`) }],
  };
  const answers = await Promise.all(
    Array.from({ length: 40 }, async (_, i) => clients[i % 2]?.createExecution(spec)),
  );
  const ids = new Set(answers.map((answer) => answer?.execution.id));
  expect(ids.size).toBe(1);
  const [id = ''] = ids;
  await ended(id ?? '');
  expect(lines('once')).toEqual(['ran']);
  for (const client of clients) {
    const refused = client.createExecution({ ...spec, name: 'another' });
    await expect(refused).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      message: expect.stringContaining(id ?? '') as string,
      details: { existing: id, refused: expect.stringMatching(/^exe_/) as string },
    });
  }
  expect(await attemptsOf(id ?? '')).toEqual([1]);
});

it('R24 ended executions leave by retention: lists, records, indices and their keys', async () => {
  const short = await startFleet({ workers: 1, env: { ...ENV, BELAY_RETENTION: `${RETENTION_MS}ms` } });
  try {
    const label = { labels: { kept: 'short' } };
    const spec = { name: 'short', idempotencyKey: 'k', nodes: [{ id: 'a', run: sh('true') }], ...label };
    const { execution } = await short.client.createExecution(spec);
    const running = await short.client.createExecution({
      name: 'long',
      nodes: [{ id: 'a', run: sh('sleep 600') }],
      ...label,
    });
    await short.client.waitForEnd(execution.id);
    expect((await short.client.executions({ labels: { kept: 'short' } })).items).toHaveLength(2);
    const { redis, keys } = short.life.valkey;
    const left = async () => [
      ...(await redis.keys(`${keys.execution(execution.id)}*`)),
      ...(
        await Promise.all(
          ['idx:exe', 'idx:exe:completed', 'idx:lbl:kept=short', 'expiry'].map(async (index) =>
            (await redis.zscore(keys.shard(keys.tagOf(execution.id), index), execution.id)) === null
              ? []
              : [index],
          ),
        )
      ).flat(),
    ];
    expect((await left()).length).toBeGreaterThan(5);
    await eventually(async () => (await left()).length === 0, 'its leaving', 30_000);
    await expect(short.client.execution(execution.id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    // An execution that has not ended stays.
    expect((await short.client.executions({ labels: { kept: 'short' } })).items.map(({ id }) => id)).toEqual([
      running.execution.id,
    ]);
    // Another orchestrator gives the same answer once the first one is gone.
    short.orchestrators[0]?.process.kill('SIGKILL');
    const next = await short.addOrchestrator();
    const client = createClient({ url: next.url ?? '', token: short.token });
    expect((await client.executions({ labels: { kept: 'short' } })).items.map(({ id }) => id)).toEqual([
      running.execution.id,
    ]);
    const owner = short.workers[0]?.id ?? '';
    expect((await client.agents({ owner, state: ['running'] })).items).toMatchObject([
      { executionId: running.execution.id },
    ]);
    // Its key is free again.
    expect((await client.createExecution(spec)).execution.id).not.toBe(execution.id);
  } finally {
    await short.stop();
  }
});
