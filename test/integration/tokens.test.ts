import fc from 'fast-check';
import { createClient } from '#libs/client';
import {
  may,
  ROLES,
  ROUTES,
  type AuditEntry,
  type Role,
  type RouteRule,
  type TokenRequest,
} from '#libs/contracts';
import { startFleet, type Fleet } from '../support/fleet';
import { until } from '../support/wait';

let fleet: Fleet;
let urls: readonly string[];
/** The secret of a token of each role, free and bound to tenant=a. */
const secrets = new Map<string, string>();
/** The records of two tenants, all ended, so that requests about them change nothing. */
const things: Record<'a' | 'b', { executionId: string; agentId: string; orderId: string; latchId: string }> =
  {
    a: { executionId: '', agentId: '', orderId: '', latchId: '' },
    b: { executionId: '', agentId: '', orderId: '', latchId: '' },
  };
const ABSENT = {
  executionId: 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ',
  agentId: 'agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-0-1',
  orderId: 'ord_01HZZZZZZZZZZZZZZZZZZZZZZZ',
  latchId: 'lat_01HZZZZZZZZZZZZZZZZZZZZZZZ',
};
type Things = typeof ABSENT;

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly body: Record<string, unknown>;
}

async function ask(
  token: string | undefined,
  method: string,
  path: string,
  body?: unknown,
  url = urls[0] ?? '',
): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  // This stream has no end of its own.
  const isEndless = path.startsWith('/api/events') && response.ok;
  if (isEndless) await response.body?.cancel();
  const text = isEndless ? '' : await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  return { status: response.status, text, body: isJson ? (JSON.parse(text) as Record<string, unknown>) : {} };
}

const admin = async (method: string, path: string, body?: unknown): Promise<Answer> =>
  ask(fleet.token, method, path, body);

async function makeToken(request: TokenRequest): Promise<string> {
  const { status, body } = await admin('POST', '/api/tokens', request);
  expect(status).toBe(201);
  return body['secret'] as string;
}

const secretOf = (role: Role, kind: 'free' | 'bound'): string => secrets.get(`${role} ${kind}`) ?? '';

beforeAll(async () => {
  fleet = await startFleet({ workers: 1 });
  await fleet.addOrchestrator();
  urls = fleet.orchestrators.map(({ url = '' }) => url);
  for (const role of ROLES) {
    secrets.set(`${role} free`, await makeToken({ name: `${role}-free`, role }));
    if (role !== 'admin')
      secrets.set(`${role} bound`, await makeToken({ name: `${role}-bound`, role, selector: 'tenant=a' }));
  }
  for (const tenant of ['a', 'b'] as const) things[tenant] = await thingsOf(tenant);
});
afterAll(async () => fleet.stop());

/** A completed execution with its agent, a complete order and a released latch, all of one tenant. */
async function thingsOf(tenant: string): Promise<Things> {
  const { execution } = await fleet.client.createExecution({
    name: 'test',
    labels: { tenant },
    nodes: [{ id: 'n', run: { command: ['true'] } }],
  });
  expect(await fleet.client.waitForEnd(execution.id)).toMatchObject({ state: 'completed' });
  const [agent] = (await fleet.client.agents({ executionId: execution.id })).items;
  const scope = { type: 'selector', selector: `tenant=${tenant}` } as const;
  const { orderId, order } = await fleet.client.kill({ scope, latch: true });
  await fleet.client.releaseLatch(order.latchId ?? '', 'test');
  return { executionId: execution.id, agentId: agent?.id ?? '', orderId, latchId: order.latchId ?? '' };
}

/** The things of a tenant, with an execution that has not begun. */
async function withIdle(tenant: 'a' | 'b'): Promise<Things> {
  const nodes = [{ id: 'n', run: { command: ['true'] } }];
  const request = { name: 'idle', labels: { tenant }, nodes };
  const { execution } = await fleet.client.createExecution(request, { start: false });
  return { ...things[tenant], executionId: execution.id };
}

const SPEC = { name: 'x', nodes: [{ id: 'n', run: { command: ['true'] } }] };
const scopeOf = (tenant: string) => ({ type: 'selector', selector: `tenant=${tenant}` });

/** A request for a route, about those records; `tenant`: the labels of new ones. It changes as little as possible. */
function requestFor({ method, path }: RouteRule, of: Things, tenant: string): [path: string, body?: unknown] {
  const id = path.startsWith('/api/executions')
    ? of.executionId
    : path.startsWith('/api/agents')
      ? of.agentId
      : path.startsWith('/api/latches')
        ? of.latchId
        : of.orderId;
  const at = path
    .replace(':id', id)
    .replace(':nodeId', 'n')
    .replace(':pool', 'empty')
    .replace(':name', 'nobody');
  const labels = { tenant };
  const bodies: Readonly<Record<string, unknown>> = {
    // An invalid name: the access is decided before, and nothing is made.
    'POST /api/executions': { ...SPEC, name: '', labels },
    'POST /api/agents': { id: '', run: { command: ['true'] }, labels },
    'POST /api/execute/stop': { executionId: of.executionId },
    'POST /api/killswitch': { scope: scopeOf(tenant), latch: false },
    'POST /api/latches': { scope: scopeOf(tenant) },
    'POST /api/tokens': {},
    'PUT /api/limits': {},
    'POST /api/killswitch/drill': { workerId: 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ' },
    'POST /api/queues/:pool/remove': {},
    'POST /api/queues/:pool/pause': { note: '' },
    'POST /api/queues/:pool/resume': { note: '' },
  };
  return [at, method === 'GET' ? undefined : (bodies[`${method} ${path}`] ?? {})];
}

/** Whether an answer shows that the access was granted, whatever its outcome. */
const granted = ({ status, body }: Answer): boolean =>
  status !== 401 && status !== 403 && (status !== 404 || body['code'] !== 'NOT_FOUND');

describe('R65 R81 R82 every role × every route × own and others’', () => {
  afterEach(async () => {
    for (const { id } of (await fleet.client.latches()).items) await fleet.client.releaseLatch(id, 'test');
  });

  const routes = ROUTES.map((rule) => [`${rule.method} ${rule.path}`, rule] as const);

  it.each(routes)('%s, as the table says', async (_, rule) => {
    const { method, needs, about } = rule;
    // A deletion of an execution that has not ended is refused, so it changes nothing.
    const [ours, theirs] =
      method === 'DELETE' ? [await withIdle('a'), await withIdle('b')] : [things.a, things.b];
    const [ownPath, ownBody] = requestFor(rule, ours, 'a');
    const [otherPath, otherBody] = requestFor(rule, theirs, 'b');
    const [absentPath, absentBody] = requestFor(rule, ABSENT, 'b');
    const isThere = (answer: Answer): boolean =>
      // These name something that exists in no store, on purpose.
      granted(answer) || (answer.status === 404 && /:name|drill|asks/.test(rule.path) && about === 'fleet');
    const nobody = await ask(undefined, method, ownPath, ownBody);
    expect(nobody.status).toBe(needs === 'none' ? 200 : 401);
    if (needs === 'none') return;
    for (const role of ROLES) {
      const free = secretOf(role, 'free');
      const answers = [
        await ask(free, method, ownPath, ownBody),
        await ask(free, method, otherPath, otherBody),
      ];
      if (!may(role, needs)) {
        for (const answer of answers)
          expect([role, answer.status, answer.body['code']]).toEqual([role, 403, 'FORBIDDEN']);
      } else expect([role, answers.map(isThere)]).toEqual([role, [true, true]]);
      if (role === 'admin') continue;
      const bound = secretOf(role, 'bound');
      const own = await ask(bound, method, ownPath, ownBody);
      const others = await ask(bound, method, otherPath, otherBody);
      if (!may(role, needs) || about === 'fleet') {
        for (const answer of [own, others])
          expect([role, answer.status, answer.body['code']]).toEqual([role, 403, 'FORBIDDEN']);
        continue;
      }
      expect([role, granted(own)]).toEqual([role, true]);
      if (about === 'scope' || about === 'spec')
        expect([role, others.status, others.body['code']]).toEqual([role, 403, 'FORBIDDEN']);
      else if (about === 'list') {
        expect([role, others.status]).toEqual([role, 200]);
        for (const id of Object.values(things.b)) expect(others.text).not.toContain(id);
      } else {
        const absent = await ask(bound, method, absentPath, absentBody);
        const asAbsent = Object.entries(theirs).reduce(
          (text, [name, id]) => text.replaceAll(id, ABSENT[name as keyof Things]),
          others.text,
        );
        expect([role, others.status, absent.status]).toEqual([role, 404, 404]);
        expect(asAbsent).toBe(absent.text);
      }
    }
  });

  it('a flag and a field that ask for more than their route are refused without that permission', async () => {
    const { executionId, agentId } = things.a;
    const events = `/api/executions/${executionId}/events`;
    expect((await ask(secretOf('viewer', 'free'), 'GET', events)).status).toBe(200);
    for (const flag of [
      'cancelOnDisconnect=1',
      'cancelOnDisconnect',
      'cancelOnDisconnect=0&cancelOnDisconnect=1',
    ])
      expect((await ask(secretOf('viewer', 'free'), 'GET', `${events}?${flag}`)).status).toBe(403);
    expect((await ask(secretOf('submitter', 'free'), 'GET', `${events}?cancelOnDisconnect=1`)).status).toBe(
      200,
    );
    const thaw = { kind: 'thaw', scope: { type: 'agent', agentId } };
    expect((await ask(secretOf('stopper', 'free'), 'POST', '/api/killswitch', thaw)).status).toBe(403);
    expect(granted(await ask(secretOf('operator', 'free'), 'POST', '/api/killswitch', thaw))).toBe(true);
  });
});

describe('R65 a token that is bound to labels', () => {
  it('stops within its own, however that is named, and nothing beyond it', async () => {
    const token = secretOf('stopper', 'bound');
    const { a, b } = things;
    const tried = async (scope: object): Promise<[number, unknown]> => {
      const { status, body } = await ask(token, 'POST', '/api/killswitch?dryRun=1', { scope });
      return [status, body['code']];
    };
    expect(await tried({ type: 'execution', executionId: a.executionId })).toEqual([200, undefined]);
    expect(await tried({ type: 'agent', agentId: a.agentId })).toEqual([200, undefined]);
    expect(await tried({ type: 'selector', selector: 'tenant=a,env=prod' })).toEqual([200, undefined]);
    expect(await tried({ type: 'execution', executionId: b.executionId })).toEqual([404, 'NOT_FOUND']);
    expect(await tried({ type: 'agent', agentId: b.agentId })).toEqual([404, 'NOT_FOUND']);
    for (const scope of [
      { type: 'all' },
      { type: 'pool', pool: 'default' },
      { type: 'worker', workerId: fleet.workers[0]?.id },
      { type: 'selector', selector: 'tenant!=b' },
      { type: 'selector', selector: 'tenant in (a,b)' },
      { type: 'job', queue: 'q', jobId: '1' },
    ])
      expect(await tried(scope)).toEqual([403, 'FORBIDDEN']);
    const { body } = await ask(token, 'POST', '/api/latches', { scope: { type: 'all' } });
    expect(body['detail']).toContain('Give the selector tenant=a.');
    expect((await fleet.client.latches()).items).toEqual([]);
  });

  it('is not told the labels of others by a warning, nor whose idempotency key it used', async () => {
    const stopper = secretOf('stopper', 'bound');
    const scope = { type: 'selector', selector: 'tenant=a,env=nowhere' };
    const plan = await ask(stopper, 'POST', '/api/killswitch?dryRun=1', { scope });
    expect(plan.body['warning']).toEqual({
      code: 'NOTHING_MATCHED',
      message: 'No agent and no execution has labels that meet tenant=a,env=nowhere.',
    });
    const key = { idempotencyKey: 'of-b' };
    const { execution } = await fleet.client.createExecution({ ...SPEC, ...key, labels: { tenant: 'b' } });
    const taken = await ask(secretOf('submitter', 'bound'), 'POST', '/api/executions', {
      ...SPEC,
      ...key,
      labels: { tenant: 'a' },
    });
    expect(taken).toMatchObject({ status: 409, body: { code: 'IDEMPOTENCY_CONFLICT' } });
    expect(taken.text).not.toContain(execution.id);
  });

  it('submits with its own labels only, on every node', async () => {
    const token = secretOf('submitter', 'bound');
    const submit = async (spec: object): Promise<number> =>
      (await ask(token, 'POST', '/api/executions', spec)).status;
    const [node] = SPEC.nodes;
    expect(await submit(SPEC)).toBe(403);
    expect(await submit({ ...SPEC, labels: { tenant: 'b' } })).toBe(403);
    expect(
      await submit({ ...SPEC, labels: { tenant: 'a' }, nodes: [{ ...node, labels: { tenant: 'b' } }] }),
    ).toBe(403);
    expect(await submit({ ...SPEC, labels: { tenant: 'a' }, nodes: 'x' })).toBe(400);
    expect(await submit({ ...SPEC, labels: { tenant: 'a' } })).toBe(201);
  });

  it('gets the end of its execution, and not the receipt of the wider order that ended it', async () => {
    const { execution } = await fleet.client.createExecution({
      name: 'test',
      labels: { tenant: 'a' },
      nodes: [{ id: 'n', run: { command: ['sleep', '600'] } }],
    });
    const receipt = await fleet.client.kill({ scope: { type: 'all' }, latch: false });
    const stop = `/api/executions/${execution.id}/stop`;
    const answer = await ask(secretOf('stopper', 'bound'), 'POST', stop, {});
    expect(answer).toMatchObject({ status: 200, body: { status: 'stopped', reason: 'killswitch' } });
    expect(answer.body).not.toHaveProperty('receipt');
    expect((await admin('POST', stop, {})).body).toMatchObject({ receipt: { orderId: receipt.orderId } });
  });
});

describe('R65 tokens that open nothing', () => {
  it('one that was revoked, at every orchestrator from the next request on, and on open streams', async () => {
    const token = await makeToken({ name: 'short', role: 'viewer' });
    const [first, second] = urls;
    const list = async (url?: string): Promise<number> =>
      (await ask(token, 'GET', '/api/executions', undefined, url)).status;
    expect([await list(first), await list(second)]).toEqual([200, 200]);
    const { execution } = await fleet.client.createExecution({ ...SPEC, name: 'idle' }, { start: false });
    const stream = await fetch(`${second}/api/executions/${execution.id}/events`, {
      headers: { authorization: `Bearer ${token}` },
    });
    await fleet.client.revokeToken('short');
    expect([await list(first), await list(second)]).toEqual([401, 401]);
    // The stream ends by itself: the execution does not.
    expect(await stream.text()).toContain('event: unauthorized');
  });

  it('one that has expired', async () => {
    const token = await makeToken({ name: 'brief', role: 'viewer', expiresInMs: 1_000 });
    await until(
      async () => (await ask(token, 'GET', '/api/executions')).status === 401,
      'the expiry of the token',
    );
    expect((await ask(token, 'GET', '/api/executions')).body['detail']).toContain('brief has expired');
  });

  it.each(['x', `belay_${'x'.repeat(43)}`, 'belay_', 'a'.repeat(64), 'null', '[object'])(
    'a wrong one: %s',
    async (token) => {
      expect(await ask(token, 'POST', '/api/killswitch', { scope: { type: 'all' } })).toMatchObject({
        status: 401,
        body: { code: 'UNAUTHORIZED' },
      });
    },
  );

  it('a name that was revoked may be given again, and the old secret stays closed', async () => {
    const before = await makeToken({ name: 'again', role: 'viewer' });
    expect((await admin('POST', '/api/tokens', { name: 'again', role: 'viewer' })).body).toMatchObject({
      code: 'TOKEN_EXISTS',
    });
    await fleet.client.revokeToken('again');
    const after = await makeToken({ name: 'again', role: 'viewer' });
    expect((await ask(before, 'GET', '/api/executions')).status).toBe(401);
    expect((await ask(after, 'GET', '/api/executions')).status).toBe(200);
  });
});

describe('R65 a latch whose release needs two people', () => {
  const ROLE_PAIRS = ROLES.flatMap((first) => ROLES.map((second) => [first, second] as const));

  it.each(ROLE_PAIRS)('is released by %s and %s only if both may release', async (first, second) => {
    const { body } = await admin('POST', '/api/latches', {
      scope: { type: 'pool', pool: 'none-such' },
      releaseNeeds: 2,
    });
    const path = `/api/latches/${String(body['id'])}/release`;
    const by = async (role: Role): Promise<number> =>
      (await ask(secretOf(role, 'free'), 'POST', path, { note: 'over' })).status;
    const answers = [await by(first), await by(second)];
    const [may1, may2] = [may(first, 'release'), may(second, 'release')];
    const releases = may1 && may2 && first !== second;
    expect(answers).toEqual([may1 ? 202 : 403, releases ? 200 : may2 ? 202 : 403]);
    const engaged = (await fleet.client.latches()).items;
    expect(engaged).toHaveLength(releases ? 0 : 1);
    for (const { id } of engaged) {
      // BELAY_TOKEN is one more person, whichever of them has approved.
      const { pending } = await fleet.client.releaseLatch(id, 'test');
      expect(pending).toEqual(
        may1 || may2 ? undefined : expect.objectContaining({ needs: 1, approvedBy: 'admin' }),
      );
      if (pending === undefined) continue;
      expect((await admin('POST', path, { note: 'me again' })).status).toBe(202);
      expect((await ask(secretOf('operator', 'free'), 'POST', path, { note: 'over' })).status).toBe(200);
    }
  });

  it('that came with a kill is released by the order’s id, too, by two names', async () => {
    const scope = { type: 'pool', pool: 'none-such' };
    const { body } = await admin('POST', '/api/killswitch', { scope, releaseNeeds: 2 });
    const path = `/api/killswitch/${String(body['orderId'])}/release`;
    const first = await ask(secretOf('operator', 'free'), 'POST', path, { note: 'mended' });
    expect(first).toMatchObject({
      status: 202,
      body: { already: false, pending: { needs: 1, approvedBy: 'operator-free' } },
    });
    expect((await fleet.client.latches()).items).toMatchObject([
      { releaseNeeds: 2, approval: { by: 'operator-free', role: 'operator', note: 'mended' } },
    ]);
    expect((await admin('POST', path, { note: 'I agree' })).body).toMatchObject({
      latch: { releasedBy: 'admin', approval: { by: 'operator-free' } },
    });
    const { items } = await fleet.client.audit({ limit: 2 });
    expect(items).toMatchObject([
      { act: 'latch.released', by: 'admin', approvedBy: 'operator-free' },
      { act: 'latch.approved', by: 'operator-free' },
    ]);
    expect((await fleet.client.latches()).items).toEqual([]);
  });
});

describe('R81 the author of an act', () => {
  it('is in orders, latches, executions and the audit log: token, role and request', async () => {
    const client = createClient({ url: urls[0] ?? '', token: secretOf('operator', 'free') });
    const who = {
      by: 'operator-free',
      role: 'operator',
      requestId: expect.stringMatching(/^req_/) as string,
    };
    const { execution } = await client.createExecution({ ...SPEC, labels: { who: 'x' } });
    const created = { actor: who.by, actorRole: who.role, requestId: who.requestId };
    expect(execution).toMatchObject(created);
    const sleeper = await client.createExecution({
      name: 's',
      nodes: [{ id: 'n', run: { command: ['sleep', '600'] } }],
    });
    const stopped = await ask(
      secretOf('stopper', 'free'),
      'POST',
      `/api/executions/${sleeper.execution.id}/stop`,
      {},
    );
    expect(stopped.body).toMatchObject({ receipt: { order: { by: 'stopper-free', role: 'stopper' } } });
    expect(await client.execution(sleeper.execution.id)).toMatchObject({
      actor: 'stopper-free',
      actorRole: 'stopper',
      requestId: expect.stringMatching(/^req_/) as string,
    });
    const latch = await client.engageLatch({ scope: { type: 'pool', pool: 'none-such' }, note: 'why' });
    expect(latch).toMatchObject(who);
    await client.releaseLatch(latch.id, 'over');
    const frozen = await client.kill({ kind: 'freeze', scope: { type: 'pool', pool: 'none-such' } });
    expect(frozen.order).toMatchObject(who);
    const thawed = await client.releaseLatch(frozen.order.latchId ?? '', 'over');
    expect(thawed.receipt?.order).toMatchObject(who);
    await client.setLimits({ limits: [] });
    await client.pauseQueue('none-such', {});
    await client.resumeQueue('none-such', {});
    await client.removeFromQueue('none-such', { note: 'none' });
    const { items } = await client.audit({ limit: 1_000 });
    const acts: readonly AuditEntry['act'][] = [
      'latch.engaged',
      'latch.released',
      'order.open',
      'limits.set',
      'queue.removing',
      'queue.removed',
    ];
    for (const act of acts)
      expect(items.filter((entry) => entry.act === act)).toContainEqual(expect.objectContaining(who));
    expect(await client.verifyAudit()).toMatchObject({ intact: true });
  });

  it('R82 the secrets are in no answer but the first, in no log and in no key', async () => {
    const everything = [
      (await admin('GET', '/api/tokens')).text,
      (await admin('GET', '/api/audit?limit=10000')).text,
      ...fleet.orchestrators.map((member) => member.log()),
      ...fleet.workers.map((member) => member.log()),
      await dumpOfStore(),
    ].join('\n');
    expect(everything).toContain('stopper-bound');
    for (const secret of secrets.values()) expect(everything).not.toContain(secret.slice('belay_'.length));
    expect(everything).not.toContain(fleet.token);
  });
});

/** Every key with its whole content. */
async function dumpOfStore(): Promise<string> {
  const { redis } = fleet.life.valkey;
  const found: string[] = [];
  for (const key of await redis.keys('*')) {
    const type = await redis.type(key);
    if (type === 'hash') found.push(key, JSON.stringify(await redis.hgetall(key)));
    else if (type === 'stream') found.push(key, JSON.stringify(await redis.xrange(key, '-', '+')));
    else if (type === 'string') found.push(key, (await redis.get(key)) ?? '');
    else found.push(key, ((await redis.dumpBuffer(key)) ?? Buffer.from('')).toString('latin1'));
  }
  return found.join('\n');
}

describe('R82 a stopper that asks for anything', () => {
  /** Requests in all, and at a time. */
  const ASKED = 4_000;
  const AT_A_TIME = 16;

  it('never starts, resumes, releases or makes anything: thousands of generated requests', async () => {
    const idle = await fleet.client.createExecution(
      { ...SPEC, name: 'idle', labels: { keep: 'idle' } },
      { start: false },
    );
    const ended = things.a;
    const held = await fleet.client.engageLatch({ scope: { type: 'pool', pool: 'held' }, note: 'stays' });
    const frozen = await fleet.client.kill({ kind: 'freeze', scope: { type: 'pool', pool: 'cold' } });
    await fleet.client.pauseQueue('paused', { note: 'stays' });
    await fleet.client.setLimits({ limits: [{ by: 'pool', running: 7 }] });
    const before = await stateOfFleet();

    const ids = [idle.execution.id, ended.executionId, ABSENT.executionId];
    const latches = [held.id, frozen.order.latchId ?? '', ABSENT.latchId];
    const orders = [frozen.orderId, ended.orderId, ABSENT.orderId];
    const request = requestsOver({ ids, latches, orders, agentId: ended.agentId });
    const asked = fc.sample(request, { numRuns: ASKED, seed: 20_261_122 });
    const stopper = secretOf('stopper', 'free');
    const statuses = new Map<number, number>();
    const queue = asked.entries();
    const send = async (): Promise<void> => {
      for (const [, { method, path, body }] of queue) {
        const { status } = await ask(stopper, method, path, body);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, send));

    expect([...statuses.values()].reduce((sum, n) => sum + n, 0)).toBe(ASKED);
    // Refused for its role many times, and granted too: the sample contains both.
    expect(statuses.get(403)).toBeGreaterThan(ASKED / 4);
    expect((statuses.get(200) ?? 0) + (statuses.get(202) ?? 0)).toBeGreaterThan(50);
    expect([...statuses.keys()].filter((status) => status >= 500)).toEqual([]);

    const after = await stateOfFleet();
    expect({ ...after, latches: after.latches.filter((id) => before.latches.includes(id)) }).toEqual(before);
    const acts = (await fleet.client.audit({ limit: 10_000 })).items.filter(
      ({ by }) => by === 'stopper-free',
    );
    const kinds = new Set(acts.map(({ act, kind }) => `${act} ${kind ?? ''}`.trim()));
    const allowed = [
      'order.open kill',
      'order.open freeze',
      'order.joined kill',
      'order.joined freeze',
      'latch.engaged latch',
    ];
    expect([...kinds].filter((kind) => !allowed.includes(kind))).toEqual([]);
    expect(kinds).toContain('latch.engaged latch');
    // Only the earlier agents ran meanwhile: no agent has begun.
    expect((await fleet.client.agents({ state: ['spawning', 'running'] })).items).toEqual([]);
  });

  /** The parts of the fleet's state that a stopper must not change. */
  async function stateOfFleet() {
    const { items } = await fleet.client.executions({ limit: 1_000 });
    const { token: _, ...tokens } = { token: '', items: (await fleet.client.tokens()).items };
    return {
      executions: items.map(({ id, epoch, startedAt, state }) => ({
        id,
        epoch,
        startedAt,
        // An idle one may be stopped; it must not run.
        state: state === 'idle' || state === 'stopped' ? 'idle or stopped' : state,
      })),
      latches: (await fleet.client.latches()).items.map(({ id }) => id),
      paused: (await fleet.client.queues()).items
        .filter(({ pause }) => pause !== undefined)
        .map(({ pool }) => pool),
      limits: (await fleet.client.limits()).items,
      tokens: tokens.items.map(({ name, revokedAt }) => `${name} ${revokedAt ?? ''}`),
    };
  }
});

/** Requests of all routes and of unknown ones, with valid and invalid ids, bodies and queries. */
function requestsOver(of: {
  readonly ids: readonly string[];
  readonly latches: readonly string[];
  readonly orders: readonly string[];
  readonly agentId: string;
}): fc.Arbitrary<{ method: string; path: string; body: unknown }> {
  const id = fc.constantFrom(...of.ids, ...of.latches, ...of.orders, of.agentId, 'x', '%2e%2e', 'drill');
  const pool = fc.constantFrom('paused', 'held', 'cold', 'default');
  const scope = fc.oneof(
    fc.constant({ type: 'all' }),
    pool.map((name) => ({ type: 'pool', pool: name })),
    fc.constantFrom(...of.ids).map((executionId) => ({ type: 'execution', executionId })),
    fc.constant({ type: 'agent', agentId: of.agentId }),
    fc.constantFrom('keep=idle', 'tenant=a', '!x').map((selector) => ({ type: 'selector', selector })),
    fc.anything(),
  );
  const body = fc.oneof(
    fc.constant(undefined),
    fc.constant({}),
    fc.constant({ note: 'fuzz' }),
    fc.record(
      {
        scope,
        kind: fc.constantFrom('kill', 'freeze', 'thaw', 'resume', 7),
        latch: fc.boolean(),
        mode: fc.constantFrom('graceful', 'immediate', 'drain', 'freeze'),
        note: fc.string({ maxLength: 20 }),
      },
      { requiredKeys: ['scope'] },
    ),
    fc.constant({ ...SPEC, labels: { keep: 'made' } }),
    fc.constant({ id: 'n', run: { command: ['true'] } }),
    fc.constantFrom(...of.ids).map((executionId) => ({ executionId })),
    fc.constant({ limits: [] }),
    fc.constant({ name: 'mine', role: 'admin' }),
    fc.constant({ force: true }),
    fc.jsonValue({ maxDepth: 2 }),
  );
  const route = fc.constantFrom(
    ...ROUTES.map(({ method, path }) => ({ method: method as string, path })),
    { method: 'DELETE', path: '/api/agents/:id' },
    { method: 'PUT', path: '/api/latches/:id/release' },
    { method: 'PATCH', path: '/api/tokens' },
  );
  // A wait for a proof would delay the sample: nothing runs, so the requests do not wait.
  const query = fc.constantFrom(
    '',
    '?wait=0',
    '?wait=0',
    '?dryRun=1',
    '?cancelOnDisconnect=1',
    '?x=1',
    '?start=true',
  );
  const isRead = ({ method }: { readonly method: string }): boolean => method === 'GET';
  return fc.record({ route, id, pool, body, query }).map((one) => ({
    method: one.route.method,
    path:
      one.route.path
        .replace(':id', one.id)
        .replace(':nodeId', 'n')
        .replace(':pool', one.pool)
        .replace(':name', 'stopper-free') + one.query,
    body: isRead(one.route) ? undefined : one.body,
  }));
}
