import { createClient } from '#libs/client';
import type { TokenRequest } from '#libs/contracts';
import { startFleet, type Fleet } from '../support/fleet';
import { until } from '../support/wait';

let fleet: Fleet;
let url: string;

beforeAll(async () => {
  fleet = await startFleet({ workers: 1, env: { BELAY_HTTP_RATE: '2:4' } });
  url = fleet.orchestrators[0]?.url ?? '';
});
afterAll(async () => fleet.stop());

interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly body: Record<string, unknown>;
}

async function ask(token: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    body: (await response.json()) as Record<string, unknown>,
  };
}

const makeToken = async (request: TokenRequest): Promise<string> =>
  (await fleet.client.createToken(request)).secret;

const READ = '/api/executions?limit=1';

/** Reads with a token without a pause from several sides, until it is ended. */
function flood(token: string): { refused: () => number; end: () => Promise<void> } {
  const over = new AbortController();
  let refused = 0;
  const loops = Array.from({ length: 8 }, async () => {
    while (!over.signal.aborted) if ((await ask(token, READ)).status === 429) refused++;
  });
  const end = async (): Promise<void> => {
    over.abort();
    await Promise.all(loops);
  };
  return { refused: () => refused, end };
}

async function refusals(reason: string): Promise<number> {
  const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${fleet.token}` } });
  const text = await response.text();
  expect(text).not.toContain('flooding');
  return Number(
    new RegExp(`^belay_requests_refused_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(text)?.[1],
  );
}

describe('R65 the rate of a token', () => {
  it('is kept: what is beyond it is answered 429 with Retry-After, and taken after the wait', async () => {
    const token = await makeToken({ name: 'reader', role: 'viewer' });
    const begun = performance.now();
    const answers = await Promise.all(Array.from({ length: 60 }, async () => ask(token, READ)));
    const seconds = (performance.now() - begun) / 1_000;
    const taken = answers.filter(({ status }) => status === 200);
    const refused = answers.filter(({ status }) => status === 429);
    expect(taken.length + refused.length).toBe(60);
    expect(taken.length).toBeGreaterThanOrEqual(4);
    expect(taken.length).toBeLessThanOrEqual(4 + 2 * seconds + 1);
    expect(refused[0]).toMatchObject({
      retryAfter: '1',
      body: { code: 'RATE_LIMITED', details: { perSecond: 2, burst: 4, retryAfterMs: expect.any(Number) } },
    });
    expect(refused[0]?.body['detail']).toContain(
      'The token reader may make 2 requests per second, 4 at once',
    );
    await until(async () => (await ask(token, READ)).status === 200, 'a request after the wait');
    expect(await refusals('token_rate')).toBeGreaterThanOrEqual(refused.length);
  });

  it('of its own takes precedence, is listed and audited', async () => {
    const { secret, token } = await fleet.client.createToken({
      name: 'wide',
      role: 'viewer',
      rate: { perSecond: 1_000, burst: 5_000 },
    });
    const answers = await Promise.all(Array.from({ length: 60 }, async () => ask(secret, READ)));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(token.rate).toEqual({ perSecond: 1_000, burst: 5_000 });
    const { items } = await fleet.client.tokens();
    expect(items.find(({ name }) => name === 'wide')?.rate).toEqual(token.rate);
    const audit = await fleet.client.audit();
    expect(audit.items.find((entry) => entry.token?.name === 'wide')?.token?.rate).toEqual(token.rate);
    expect(await fleet.client.verifyAudit()).toMatchObject({ intact: true });
  });

  it('R82 is none for stops: while a token floods, its kills, freezes, latches and dry runs are taken', async () => {
    const token = await makeToken({ name: 'flooding', role: 'operator' });
    const other = await makeToken({ name: 'calm', role: 'viewer', rate: { perSecond: 1, burst: 100 } });
    const scope = { type: 'pool', pool: 'none-such' };
    const { execution } = await fleet.client.createExecution({
      name: 'sleeper',
      nodes: [{ id: 'n', run: { command: ['sleep', '600'] } }],
    });
    await until(
      async () => (await fleet.client.agents({ executionId: execution.id })).items[0]?.state === 'running',
      'the running agent',
    );
    const flooding = flood(token);
    try {
      await until(() => flooding.refused() > 20, 'refusals of the flood');
      for (let round = 0; round < 5; round++) {
        const before = flooding.refused();
        const stops = [
          await ask(token, '/api/killswitch?dryRun=1', { scope: { type: 'all' } }),
          await ask(token, '/api/killswitch', { scope, latch: false }),
          await ask(token, '/api/killswitch', { kind: 'freeze', scope }),
          await ask(token, '/api/latches', { scope }),
        ];
        for (const { status, body } of stops) expect([200, 201, 202]).toContain(body['code'] ?? status);
        // The flood goes on beside them.
        await until(() => flooding.refused() > before, 'refusals beside the stops');
        expect((await ask(other, READ)).status).toBe(200);
      }
      const stopped = await ask(token, `/api/executions/${execution.id}/stop`, {});
      expect(stopped).toMatchObject({
        status: 200,
        body: { status: 'stopped', receipt: { complete: true } },
      });
      // A thaw has the route of a kill, and stops nothing.
      await until(
        async () => (await ask(token, '/api/killswitch', { kind: 'thaw', scope })).status === 429,
        'the refusal of a thaw',
      );
    } finally {
      await flooding.end();
    }
    for (const { id } of (await fleet.client.latches()).items) await fleet.client.releaseLatch(id, 'test');
  });

  it('is told by the client, and a submit waits for its turn', async () => {
    const token = await makeToken({ name: 'slow', role: 'submitter', rate: { perSecond: 1, burst: 1 } });
    const client = createClient({ url, token });
    await until(async () => {
      const error: unknown = await client.executions().catch((raised: unknown) => raised);
      return (error as { code?: string }).code === 'RATE_LIMITED';
    }, 'a refusal');
    const { replayed } = await client.createExecution({
      name: 'waits',
      nodes: [{ id: 'n', run: { command: ['true'] } }],
    });
    expect(replayed).toBe(false);
  });
});

describe('R65 wrong tokens', () => {
  it('are bounded, while the right ones from the same address work, and stops of one never seen before', async () => {
    const token = await makeToken({ name: 'right', role: 'viewer', rate: { perSecond: 1_000 } });
    const unseen = await makeToken({ name: 'unseen', role: 'stopper' });
    expect((await ask(token, READ)).status).toBe(200);
    const wrong = async (): Promise<Answer[]> =>
      Promise.all(
        Array.from({ length: 40 }, async (_, at) => ask(`belay_${String(at).padStart(43, 'x')}`, READ)),
      );
    const seen = new Set<number>();
    await until(async () => {
      for (const { status } of await wrong()) seen.add(status);
      return seen.has(429);
    }, 'a refusal of wrong tokens');
    expect(seen).toEqual(new Set([401, 429]));
    const beside = wrong();
    expect((await ask(token, READ)).status).toBe(200);
    expect((await ask(fleet.token, READ)).status).toBe(200);
    const scope = { type: 'pool', pool: 'none-such' };
    expect((await ask(unseen, '/api/killswitch', { scope, latch: false })).status).toBeLessThan(300);
    expect((await beside).some(({ retryAfter }) => retryAfter !== null)).toBe(true);
    expect(await refusals('wrong_tokens')).toBeGreaterThan(0);
  });
});
