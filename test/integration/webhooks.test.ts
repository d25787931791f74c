import { createClient, type BelayClient } from '#libs/client';
import { eventually, type Member } from '../support/fleet';
import { startCluster } from '../support/many-servers';
import { fleetPerTest } from '../support/own-fleet';
import { startReceiver, writeWebhooks, type Receiver } from '../support/receiver';

const { fleet, begin, it, onEnd } = fleetPerTest();

const FAST = { retry: { maxAttempts: 5, delayMs: 50, maxMs: 200 } };

async function receiver(...given: Parameters<typeof startReceiver>): Promise<Receiver> {
  const made = await startReceiver(...given);
  onEnd(made.stop);
  return made;
}

/** The setting with a file of these endpoints; each wants latches. */
function configured(receivers: Readonly<Record<string, Receiver>>): Record<string, string> {
  const list = Object.entries(receivers).map(([name, { url, secret }]) => ({
    name,
    url,
    secret,
    events: ['latch.*'],
  }));
  const { file, remove } = writeWebhooks(list, FAST);
  onEnd(remove);
  return { BELAY_WEBHOOKS_FILE: file };
}

const scope = { type: 'pool', pool: 'gpu' } as const;

/** Causes `latch.engaged` and `latch.released`. */
async function engageAndRelease(
  client: Pick<BelayClient, 'engageLatch' | 'releaseLatch'>,
  pool = 'gpu',
): Promise<void> {
  const latch = await client.engageLatch({ scope: { type: 'pool', pool }, note: 'why' });
  await client.releaseLatch(latch.id, 'mended');
}

/** A new endpoint is told of events from the moment in which its cursor is stored. */
async function known(...names: string[]): Promise<void> {
  await eventually(
    async () => Object.keys(await cursors()).length === names.length,
    `cursors of ${names.join(' ')}`,
  );
}
async function cursors(): Promise<Record<string, string>> {
  const { redis, keys } = fleet.life.valkey;
  return redis.hgetall(keys.shard(keys.control, 'webhooks:cursors'));
}

const types = ({ got }: Receiver): string[] => got.map(({ type }) => type).toSorted();

it('a webhook is signed, sent again with the same id after a 500, and seen in lists and metrics without its secret', async () => {
  const pager = await receiver((count) => (count === 1 ? 500 : 204));
  const { client, orchestrators, token } = await begin({ workers: 0, env: configured({ pager }) });
  await known('pager');
  await engageAndRelease(client);
  await eventually(() => pager.got.length === 3, 'two messages, one of them twice');
  expect(pager.got.every(({ isSigned }) => isSigned)).toBe(true);
  const [first] = pager.got;
  const again = pager.got.filter(({ id }) => id === first?.id);
  expect([again.length, new Set(pager.got.map(({ id }) => id)).size]).toEqual([2, 2]);
  expect(again[1]?.data).toEqual(first?.data);
  expect(new Set(types(pager))).toEqual(new Set(['latch.engaged', 'latch.released']));
  const engaged = pager.got.find(({ type }) => type === 'latch.engaged');
  expect(engaged?.data).toMatchObject({ type: 'latch.engaged', data: { kind: 'latch', scope } });

  await eventually(async () => (await client.webhooks()).items[0]?.waiting === 0, 'the end of both');
  const { items } = await client.webhooks();
  expect(items).toEqual([
    {
      name: 'pager',
      origin: new URL(pager.url).origin,
      events: ['latch.*'],
      waiting: 0,
      failed: 0,
      lastSuccessAt: expect.any(Number),
      lastErrorAt: expect.any(Number),
      lastError: 'answered 500',
    },
  ]);
  const { items: deliveries } = await client.webhookDeliveries('pager');
  expect(deliveries.map(({ state, attempts }) => `${state} ${attempts}`).toSorted()).toEqual([
    'delivered 1',
    'delivered 2',
  ]);
  await expect(client.webhookDeliveries('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const [member] = orchestrators;
  const metrics = await fetch(`${member?.url}/metrics`, { headers: { authorization: `Bearer ${token}` } });
  expect(await metrics.text()).toContain('belay_webhook_tries_total{endpoint="pager",result="delivered"} 2');

  const { redis } = fleet.life.valkey;
  const stored: unknown[] = [member?.log(), items, deliveries];
  for (const key of await redis.keys('*webhooks*'))
    if ((await redis.type(key)) === 'hash') stored.push(await redis.hgetall(key));
  const text = JSON.stringify(stored);
  expect(text).toContain('latch.released');
  expect(text).not.toContain(pager.secret.slice(6));
  expect(text).not.toContain('path-that-is-secret');
});

it('an endpoint that hangs delays no other, and one that answers 410 gets no second try', async () => {
  const hung = await receiver(() => 'hang');
  const gone = await receiver(() => 410);
  const quick = await receiver();
  const { client } = await begin({ workers: 0, env: configured({ hung, gone, quick }) });
  await known('hung', 'gone', 'quick');
  for (let round = 0; round < 5; round++) await engageAndRelease(client);
  await eventually(() => quick.got.length === 10 && gone.got.length === 10, 'all messages to the others');
  // Each try to the one that hangs lasts until its limit: none of its first four has ended.
  expect(hung.got.length).toBeLessThanOrEqual(4);
  await eventually(
    async () => (await client.webhooks()).items.find(({ name }) => name === 'gone')?.failed === 10,
    'ten deliveries that failed for good',
  );
  const { items } = await client.webhooks();
  expect(items.map(({ name, waiting }) => [name, waiting])).toEqual([
    ['gone', 0],
    ['hung', 10],
    ['quick', 0],
  ]);
  expect(new Set(gone.got.map(({ id }) => id)).size).toBe(10);
});

it('two orchestrators send each event once, and go on after a restart of the server', async () => {
  const pager = await receiver();
  const env = configured({ pager });
  const { client, addOrchestrator, server } = await begin({ workers: 0, env, server: { appendonly: true } });
  const second = await addOrchestrator();
  const other = createClient({ url: second.url ?? '', token: fleet.token });
  await known('pager');
  for (let round = 0; round < 5; round++)
    await Promise.all([engageAndRelease(client), engageAndRelease(other, 'web')]);
  const { redis, keys } = fleet.life.valkey;
  const newest = async (): Promise<string> => {
    const [row] = await redis.xrevrange(keys.shard(keys.control, 'events'), '+', '-', 'COUNT', 1);
    return row?.[0] ?? '';
  };
  const isForwarded = async (): Promise<boolean> =>
    (await cursors())['pager']?.startsWith(`${await newest()} `) === true;
  const isOver = async (): Promise<boolean> => (await client.webhooks()).items[0]?.waiting === 0;
  await eventually(async () => (await isForwarded()) && (await isOver()), 'all messages');
  const ids = pager.got.map(({ id }) => id);
  expect(ids.length).toBeGreaterThanOrEqual(10);
  expect(new Set(ids).size).toBe(ids.length);

  await server.restart();
  const before = pager.got.length;
  await engageAndRelease(client);
  await eventually(async () => pager.got.length === before + 2, 'the messages after the restart');
  expect(types(pager)).not.toContain('webhooks.gap');
});

it('on a Cluster webhooks are sent as on one server', async () => {
  const many = await startCluster();
  onEnd(async () => many.stop());
  const pager = await receiver((count) => (count === 1 ? 500 : 204));
  const { client } = await begin({ url: many.url, workers: 0, env: configured({ pager }) });
  await known('pager');
  await engageAndRelease(client);
  await eventually(
    async () => (await client.webhookDeliveries('pager')).items.length === 2,
    'two deliveries',
  );
  await eventually(async () => (await client.webhooks()).items[0]?.waiting === 0, 'the end of both');
  expect(new Set(types(pager))).toEqual(new Set(['latch.engaged', 'latch.released']));
  expect([pager.got.length, pager.got.every(({ isSigned }) => isSigned)]).toEqual([3, true]);
});

it('an orchestrator killed after it stored a message and before the cursor moved repeats it with the same id', async () => {
  const pager = await receiver();
  const env = configured({ pager });
  await begin({ workers: 0, orchestrators: 0, server: { listen: 'tcp' } });
  const { redis } = fleet.life.valkey;
  const everything = ['resetkeys', '~*'];
  // All keys but those of webhooks, which may be read only.
  const noMoves =
    'resetkeys ~bull:* ~belay:* ~{belay:0}* ~{belay:1}* ~{belay:ctl}:[^w]* ~{belay:ctl}:w[^e]* %R~{belay:ctl}:webhooks:*'.split(
      ' ',
    );
  const set = async (rules: readonly string[]): Promise<unknown> => redis.acl('SETUSER', 'belay', ...rules);
  await set(['on', '>word', '&*', '+@all', ...everything]);
  const url = new URL(fleet.server.url);
  url.username = 'belay';
  url.password = 'word';
  const add = async (): Promise<Member> => fleet.addOrchestrator({ ...env, BELAY_VALKEY_URL: url.href });
  const first = await add();
  await known('pager');
  await set(noMoves);
  const latch = await createClient({ url: first.url ?? '', token: fleet.token }).engageLatch({
    scope,
    note: 'why',
  });
  await eventually(() => pager.got.length > 0, 'the message');
  const before = await cursors();
  first.process.kill('SIGKILL');
  await first.exited;
  await set(everything);
  expect(await cursors()).toEqual(before);
  const later = await add();
  await eventually(async () => (await cursors())['pager'] !== before['pager'], 'the move of the cursor');
  const client = createClient({ url: later.url ?? '', token: fleet.token });
  await eventually(async () => (await client.webhooks()).items[0]?.waiting === 0, 'the end of the delivery');
  expect(new Set(pager.got.map(({ id, data }) => JSON.stringify([id, data['data']]))).size).toBe(1);
  expect(pager.got[0]?.data).toMatchObject({ data: { latchId: latch.id } });
});

it('an orchestrator does not start with a file that has faults, and names all of them', async () => {
  const { file, remove } = writeWebhooks([
    {
      name: 'a',
      url: 'http://hooks.example/path-that-is-secret',
      secret: 'whsec_short',
      events: ['latch.engage'],
    },
  ]);
  onEnd(remove);
  const started = begin({ workers: 0, env: { BELAY_WEBHOOKS_FILE: file } });
  const problem = await started.then(
    () => '',
    (error: Error) => error.message,
  );
  expect(problem).toContain('endpoints[0].url: must be https, or http on loopback');
  expect(problem.match(/did you mean latch\.engaged\?/g)).toHaveLength(1);
  expect(problem).toMatch(/endpoints\[0\]\.secretFile: \S+a\.secret must have whsec_/);
  expect(problem).not.toContain('path-that-is-secret');
});
