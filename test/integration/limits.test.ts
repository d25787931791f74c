import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '#libs/client';
import { ended } from '../support/executions';
import { eventually } from '../support/fleet';
import { startCluster, startSentinelSet } from '../support/many-servers';
import { fleetPerTest } from '../support/own-fleet';

const { fleet, begin, it, onEnd } = fleetPerTest();

/** An agent that records its own start and end, by the machine's clock in nanoseconds. */
const recorded = (tenant: string, work = 'sleep 0.05') => ({
  shell: true,
  command: [
    `echo "$(date +%s%N) 1 ${tenant} $BELAY_AGENT_ID" >>${book()}; ${work}; echo "$(date +%s%N) -1 ${tenant} $BELAY_AGENT_ID" >>${book()}`,
  ],
});
const book = (): string => join(fleet.dir, 'book');

interface Entry {
  readonly at: bigint;
  readonly by: number;
  readonly tenant: string;
  readonly agentId: string;
}
function entries(): Entry[] {
  if (!existsSync(book())) return [];
  const lines = readFileSync(book(), 'utf8').trim().split('\n');
  const read = lines.map((line) => {
    const [at = '0', by = '0', tenant = '', agentId = ''] = line.split(' ');
    return { at: BigInt(at), by: Number(by), tenant, agentId };
  });
  return read.sort((a, b) => (a.at < b.at ? -1 : 1));
}

/** The most agents that ran at a time by their own records, by tenant and in all. */
function peaks(read: readonly Entry[]): Record<string, number> {
  const now: Record<string, number> = {};
  const most: Record<string, number> = {};
  for (const { by, tenant } of read)
    for (const name of [tenant, 'all']) {
      now[name] = (now[name] ?? 0) + by;
      most[name] = Math.max(most[name] ?? 0, now[name]);
    }
  return most;
}

const idle = async (): Promise<boolean> => {
  const { held, waiting } = await fleet.client.limits();
  return held === 0 && waiting === 0;
};

it.each([
  { mode: 'one server', start: undefined },
  { mode: 'a Sentinel set', start: startSentinelSet },
  { mode: 'a Cluster', start: startCluster },
])(
  'R35 on $mode limits are kept with four processes that submit and four that work, by the agents’ own records',
  async ({ start }) => {
    const many = await start?.();
    if (many !== undefined) onEnd(async () => many.stop());
    const url = many === undefined ? {} : { url: many.url };
    await begin({ ...url, workers: 4, env: { BELAY_WORKER_CONCURRENCY: '8' } });
    for (let i = 0; i < 3; i++) await fleet.addOrchestrator();
    const clients = fleet.orchestrators.map(({ url = '' }) => createClient({ url, token: fleet.token }));
    expect(clients).toHaveLength(4);
    await fleet.client.setLimits({
      limits: [
        { by: 'label.tenant', running: 3 },
        { by: 'fleet', running: 7 },
      ],
    });
    const go = join(fleet.dir, 'go');
    const work = `until [ -e ${go} ]; do sleep 0.05; done; sleep 0.05`;
    const tenants = ['a', 'b', 'c'];
    const submits = Array.from({ length: 24 }, async (_, i) => {
      const tenant = tenants[i % 3] as string;
      const nodes = Array.from({ length: 5 }, (_n, n) => ({ id: `n${n}`, run: recorded(tenant, work) }));
      return clients[i % 4]!.createExecution({ name: 'test', labels: { tenant }, nodes });
    });
    const ids = (await Promise.all(submits)).map(({ execution }) => execution.id);
    // The limits are reached, not only kept.
    await eventually(() => entries().length === 7, 'seven agents');
    expect(await fleet.client.limits()).toMatchObject({ held: 7, waiting: 113 });
    writeFileSync(go, '');
    for (const id of ids) expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
    const read = entries();
    expect(read).toHaveLength(240);
    const most = peaks(read);
    for (const tenant of tenants) expect(most[tenant]).toBeLessThanOrEqual(3);
    expect(most['all']).toBeLessThanOrEqual(7);
    await eventually(idle, 'every slot given back');
  },
);

it('R35 kill -9 of a worker gives back its slots, once its lease is over and not before', async () => {
  await begin({ workers: 1, env: { BELAY_LEASE_TTL_MS: '4000', BELAY_HEARTBEAT_MS: '250' } });
  await fleet.client.setLimits({ limits: [{ by: 'pool', running: 2 }] });
  const go = join(fleet.dir, 'go');
  const work = `until [ -e ${go} ]; do sleep 0.05; done`;
  const nodes = ['a', 'b', 'c', 'd'].map((id) => ({ id, maxAttempts: 3, run: recorded(id, work) }));
  const { execution } = await fleet.client.createExecution({ name: 'test', nodes });
  await eventually(() => entries().length === 2, 'two agents');
  await eventually(async () => (await fleet.client.limits()).waiting === 2, 'two that wait');
  const [first] = fleet.workers;
  await fleet.addWorker();
  first!.process.kill('SIGKILL');
  await first!.exited;
  await eventually(() => entries().length === 4, 'two more agents, on the other worker');
  expect(await fleet.client.limits()).toMatchObject({ held: 2 });
  writeFileSync(go, '');
  expect(await ended(fleet.client, execution.id)).toMatchObject({ state: 'completed' });
  await eventually(idle, 'every slot given back');
});

it('R35 a submit that asks not to wait is refused with 429 and Retry-After, and leaves nothing behind', async () => {
  await begin({ workers: 1 });
  await fleet.client.setLimits({ limits: [{ by: 'label.tenant', running: 1 }] });
  const labels = { tenant: 'a' };
  const sleep = [{ id: 'n', run: { command: ['sleep', '600'] } }];
  const nodes = [{ id: 'n', run: { command: ['true'] } }];
  const taken = await fleet.client.createExecution({ name: 'first', labels, nodes: sleep }, { queue: false });
  await eventually(async () => (await fleet.client.limits()).held === 1, 'a slot in use');
  const post = async (path: string, body: unknown, key?: string): Promise<Response> =>
    fetch(`${fleet.orchestrators[0]!.url}${path}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${fleet.token}`,
        'content-type': 'application/json',
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      body: JSON.stringify(body),
    });
  for (const [path, body] of [
    ['/api/executions?queue=false', { name: 'second', labels, nodes }],
    ['/api/agents?queue=false', { name: 'second', labels, run: { command: ['true'] } }],
  ] as const) {
    const refused = await post(path, body);
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('5');
    expect(await refused.json()).toMatchObject({
      code: 'LIMITED',
      details: { limit: 'label.tenant=a', retryAfterMs: 5_000 },
    });
  }
  const { items } = await fleet.client.executions();
  expect(items.map(({ id }) => id)).toEqual([taken.execution.id]);
  // Another tenant is not limited; an accepted submit gets its answer again; a submit that may wait, waits.
  await fleet.client.createExecution({ name: 'other', labels: { tenant: 'b' }, nodes }, { queue: false });
  const waits = await post('/api/executions', { name: 'third', labels, nodes }, 'k');
  expect(waits.status).toBe(201);
  expect((await post('/api/executions?queue=false', { name: 'third', labels, nodes }, 'k')).status).toBe(200);
  await fleet.client.stop(taken.execution.id);
  const { id } = (await waits.json()) as { id: string };
  expect(await ended(fleet.client, id)).toMatchObject({ state: 'completed' });
});
