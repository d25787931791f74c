import type { WorkerState } from '#libs/contracts';
import { startHealthServer } from './health-server';

describe('R49 health of a worker, without a token', () => {
  let state: WorkerState = 'idle';
  let health: Awaited<ReturnType<typeof startHealthServer>>;
  beforeAll(async () => {
    health = await startHealthServer(
      '127.0.0.1',
      0,
      () => ({ state, workerId: 'wrk_X', running: 3 }),
      async () => 'up 1\n',
    );
  });
  afterAll(async () => {
    health.server.closeAllConnections();
    await new Promise((closed) => health.server.close(closed));
  });

  it.each([
    ['idle', [503, 200, 503]],
    ['running', [200, 200, 200]],
    ['draining', [200, 200, 503]],
    ['stopped', [503, 503, 503]],
  ] as const)(
    '%s: /health, /health/live and /health/ready, with the state in the body',
    async (now, codes) => {
      state = now;
      const answers = await Promise.all(
        ['/health', '/health/live', '/health/ready'].map(async (path) =>
          fetch(`http://127.0.0.1:${health.port}${path}`),
        ),
      );
      expect(answers.map(({ status }) => status)).toEqual(codes);
      for (const answer of answers)
        expect(await answer.json()).toEqual({ state: now, workerId: 'wrk_X', running: 3 });
    },
  );

  it('counts at /metrics, and knows no other path', async () => {
    expect(await (await fetch(`http://127.0.0.1:${health.port}/metrics`)).text()).toBe('up 1\n');
    expect((await fetch(`http://127.0.0.1:${health.port}/else`)).status).toBe(404);
  });
});
