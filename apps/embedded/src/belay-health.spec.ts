import type { Valkey } from '#libs/valkey';
import { BelayHealth } from './belay-health';
import type { BelayRuntime } from './belay-runtime';

const health = (runtime: object, ping: () => Promise<string> = async () => 'PONG'): BelayHealth =>
  new BelayHealth(runtime as BelayRuntime, { redis: { ping } } as unknown as Valkey);
const worker = (state: string, leftMs: number) => ({
  hasWorker: true,
  worker: { state, lease: { holds: leftMs > 0, leftMs } },
});

it.each([
  ['takes work and has its lease', worker('running', 9_000.4), { status: 'up', leaseLeftMs: 9_000 }],
  ['has no contact with Valkey', worker('running', -3), { status: 'down', leaseLeftMs: 0 }],
  ['was given up', worker('stopped', 9_000), { status: 'down', message: 'It is stopped.' }],
  ['has not started', { hasWorker: true }, { status: 'down', state: 'idle' }],
  ['is none of this application', { hasWorker: false }, { status: 'up', state: 'none' }],
])('tells of a worker that %s', (_what, runtime, said) => {
  expect(health(runtime).worker()).toMatchObject({ 'belay-worker': said });
});

it.each([
  ['end', { state: 'running', sincePassMs: 900 }, { status: 'up', sincePassMs: 900 }],
  ['do not end', { state: 'running', sincePassMs: 15_001 }, { status: 'down' }],
  ['were stopped', { state: 'stopped', sincePassMs: 10 }, { status: 'down', message: 'It is stopped.' }],
])('tells of background passes that %s', (_what, background, said) => {
  expect(health({ background }).background('passes')).toMatchObject({ passes: said });
});

it('tells of a server that answers, refuses, and does not answer', async () => {
  expect(await health({}).valkey()).toMatchObject({ 'belay-valkey': { status: 'up' } });
  const refused = health({}, async () => Promise.reject(new Error('away')));
  expect(await refused.valkey()).toMatchObject({ 'belay-valkey': { status: 'down', message: 'away' } });
  const silent = health({}, async () => new Promise(() => undefined));
  expect(await silent.valkey('state')).toMatchObject({
    state: { status: 'down', message: expect.stringContaining('1000 ms') },
  });
});
