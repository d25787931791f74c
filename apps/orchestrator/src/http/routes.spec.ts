import { createHash } from 'node:crypto';
import { readSettings, ROUTES } from '#libs/contracts';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { OrchestratorModule } from '../orchestrator.module';
import { makeHttp } from './make-http';
import type { RequestGate } from './request-gate';

let server: ThrowawayServer;
let gate: RequestGate;
let close: () => Promise<void>;
let url: string;
beforeAll(async () => {
  server = await startThrowawayServer();
  const settings = readSettings({ BELAY_VALKEY_URL: server.url });
  const valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 2 }).open();
  const onError = (error: unknown): never => {
    throw error;
  };
  const http = await makeHttp(
    OrchestratorModule.forRoot({ settings, valkey, leaveDrillSchedule: true, onError }),
    { token: 'a-token-of-sixteen', requestTimeoutMs: 5_000, rate: 'off', log: { error: onError } as never },
  );
  // A new route for which nobody wrote a rule.
  http.app
    .getHttpAdapter()
    .getInstance()
    .get('/api/forgotten', async () => 'secret');
  await http.app.listen(0, '127.0.0.1');
  ({ gate } = http);
  url = await http.app.getUrl();
  close = async () => {
    await http.app.close();
    valkey.close();
  };
});
afterAll(async () => {
  await close();
  await server.stop();
});

describe('R65 the table of routes and the routes that Nest serves', () => {
  it('are the same: a route without an entry, and an entry without a route, fails here', () => {
    const served = gate
      .served()
      .filter((route) => !route.startsWith('HEAD ') && route !== 'GET /api/forgotten');
    expect(served.length).toBeGreaterThan(40);
    expect(served.toSorted()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).toSorted());
  });

  it('are those of the OpenAPI document, which needs no token', async () => {
    const answer = await fetch(`${url}/api/openapi.json`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      'application/json; charset=utf-8',
    ]);
    const { paths } = (await answer.json()) as { paths: Record<string, Record<string, unknown>> };
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`),
    );
    const served = gate
      .served()
      .filter((route) => !route.startsWith('HEAD ') && route !== 'GET /api/forgotten');
    expect(described.toSorted()).toEqual(served.toSorted());
  });

  it('has a page that needs no token and may load nothing', async () => {
    const answer = await fetch(`${url}/api/docs`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    const page = await answer.text();
    const style = /<style>(.*?)<\/style>/s.exec(page)?.[1] ?? '';
    const hash = createHash('sha256').update(style).digest('base64');
    expect(answer.headers.get('content-security-policy')).toBe(
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    expect(page).toContain('POST /api/killswitch');
  });

  it('a route without an entry is refused to everybody', async () => {
    for (const headers of [{}, { authorization: 'Bearer a-token-of-sixteen' }]) {
      const answer = await fetch(`${url}/api/forgotten`, { headers });
      expect(answer.status).toBe(403);
      expect(await answer.json()).toMatchObject({ code: 'FORBIDDEN' });
    }
  });

  it('every answer names its request, and no two the same', async () => {
    const ids = await Promise.all(
      ['/health', '/api/executions', '/api/none'].map(
        async (path) => (await fetch(url + path)).headers.get('x-request-id') ?? '',
      ),
    );
    expect(ids.every((id) => /^req_[0-9A-HJKMNP-TV-Z]{26}$/.test(id))).toBe(true);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
