import { LifecycleService } from '#libs/lifecycle';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually, startFleet, type Fleet } from '../support/fleet';
import { ScriptRunner, Valkey } from '#libs/valkey';
import { ensureServer } from '#libs/local-server';
import { advanceAll, createExecution, node, spec } from '../support/life';
import { startCluster, type ManyServers } from '../support/many-servers';
import { SlotMove } from '../support/slot-move';

const TAG = '{belay:0}';
jest.setTimeout(60_000);

let many: ManyServers;
let move: SlotMove | undefined;
beforeAll(async () => {
  many = await startCluster({ primaries: 2, replicas: 0 });
});
afterEach(async () => move?.end());
afterAll(async () => many.stop());

/** Begins a move to another node than the slot's present one. */
async function begin(key: string): Promise<SlotMove> {
  const from = await many.primary(key);
  const to = many.servers.find((server) => server !== from);
  if (to === undefined) throw new Error('there is one node only');
  return (move = await SlotMove.begin({ from, to }, key));
}

describe('A slot that moves to another node, with half of its keys there', () => {
  let valkey: Valkey;
  let life: LifecycleService;
  beforeAll(async () => {
    valkey = await new Valkey({ url: many.url, keyPrefix: 'belay', shards: 1, patienceMs: 500 }).open();
    life = new LifecycleService(valkey, { retentionMs: 60_000 });
  });
  afterAll(() => valkey.close());

  /** The fields that a stop must change, on whichever node they are now. */
  async function seen(id: string): Promise<Record<string, unknown>> {
    const { state, version } = await life.executions.get(id);
    const index = async (name: string) =>
      (await valkey.redis.zscore(`${TAG}:idx:exe:${name}`, id)) === null ? 'absent' : 'listed';
    return { state, version, running: await index('running'), stopping: await index('stopping') };
  }

  const movedFirst = [
    ['the indices', (key: string) => key.includes(':idx:')],
    ['the execution', (key: string) => key.includes(':exe:exe_')],
    ['its nodes', (key: string) => key.endsWith(':nodes')],
    ['the record alone', (key: string) => /:exe:exe_\w+$/.test(key)],
    ['nothing yet', () => false],
    ['everything', () => true],
  ] as const;
  it.each(movedFirst)('no script does half of its work when %s went first', async (_name, isFirst) => {
    const id = await createExecution(life, spec([node('a'), node('b')]));
    const [entry] = await advanceAll(life, id);
    if (entry === undefined) throw new Error('nothing is ready');
    await life.agents.claim(entry, 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ', 'token');
    const before = await seen(id);
    const moving = await begin(TAG);
    await moving.keys(isFirst);
    await expect(life.executions.stop(id, { reason: 'user_abort' })).rejects.toMatchObject({
      code: 'OUTCOME_UNKNOWN',
      cause: { message: expect.stringMatching(/TRYAGAIN|Too many Cluster redirections/) as unknown },
    });
    expect(await seen(id)).toEqual(before);
    expect((await ensureServer({ env: { BELAY_VALKEY_URL: many.url } })).moving).toEqual([moving.slot]);
    // A call meanwhile is repeated until the slot has settled.
    const patient = new ScriptRunner(valkey.redis, 30_000);
    const stopping = new LifecycleService(Object.create(valkey, { scripts: { value: patient } }) as Valkey, {
      retentionMs: 60_000,
    });
    const stopped = stopping.executions.stop(id, { reason: 'user_abort' });
    await moving.end();
    await stopped;
    expect(await seen(id)).toMatchObject({ state: 'stopping', running: 'absent', stopping: 'listed' });
  });
});

describe('A fleet whose slots move while it works', () => {
  const EXECUTIONS = 40;
  const KEPT_MS = 1_500;
  const chain = {
    name: 'chain',
    nodes: ['a', 'b', 'c'].map((id, i, all) => ({
      id,
      dependsOn: all.slice(Math.max(0, i - 1), i),
      run: { command: ['sleep 0.2'], shell: true },
      maxAttempts: 5,
    })),
  };
  let fleet: Fleet;
  beforeAll(async () => {
    const env = { BELAY_SHARDS: '1', BELAY_KEY_PREFIX: 'moved', BELAY_WORKER_CONCURRENCY: '16' };
    fleet = await startFleet({ url: many.url, workers: 2, env });
  });
  afterAll(async () => fleet.stop());

  it.each([
    ['executions', '{moved:0}'],
    ['orders and workers', '{moved:ctl}'],
    ['the job queues', '{bull}'],
  ])('ends all it accepted, and obeys a kill, while the slot of %s moves', async (_name, tag) => {
    const make = async (): Promise<string> => (await fleet.client.createExecution(chain)).execution.id;
    const ids = await Promise.all(Array.from({ length: EXECUTIONS / 2 }, make));
    const moving = await begin(tag);
    let odd = 0;
    await moving.keys(() => odd++ % 2 === 0);
    const rest = Promise.all(Array.from({ length: EXECUTIONS / 2 }, make));
    await pause(KEPT_MS);
    await moving.end();
    ids.push(...(await rest));
    const victim = ids.at(-1) as string;
    const { status } = await fleet.client.stop(victim);
    expect(['stopped', 'completed']).toContain(status);
    const states = await eventually(
      async () => {
        const found = await Promise.all(ids.map(async (id) => (await fleet.client.execution(id)).state));
        return found.every((state) => ['completed', 'failed', 'stopped'].includes(state)) && found;
      },
      'the end of all',
      60_000,
    );
    expect(states.filter((state) => state === 'completed').length).toBeGreaterThanOrEqual(EXECUTIONS - 1);
    expect((await fleet.client.executions({ state: ['running', 'stopping'] })).items).toEqual([]);
  });
});
