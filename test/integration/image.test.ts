import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient } from '#libs/client';
import { parseDuration, readSettings } from '#libs/contracts';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';
import { parse } from 'yaml';
import { bareEnvironment } from '../support/packed';
import { readDockerfile, replay, type Stage } from '../support/image';
import { eventually } from '../support/wait';

/** The Dockerfile and docker-compose.yml without Docker: their steps run in empty directories. */
const ROOT = resolve(__dirname, '../..');
const TOKEN = 'a-token-of-the-image-test';
const dockerfile = readDockerfile(readFileSync(join(ROOT, 'Dockerfile'), 'utf8'));

interface Service {
  readonly image: string;
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly (string | { type: string; target: string })[];
  readonly [key: string]: unknown;
}
const compose = parse(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
  services: Record<'valkey' | 'orchestrator' | 'worker', Service>;
  volumes: Record<string, null>;
};

let directory: string;
let image: Stage;
let server: ThrowawayServer;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'belay-image-'));
  image = replay(dockerfile, directory);
  server = await startThrowawayServer();
}, 300_000);
afterAll(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

it('the image runs as an ordinary user, below an init, with a health check and a stop signal', () => {
  expect(image.says).toMatchObject({ USER: 'node', STOPSIGNAL: 'SIGTERM' });
  expect(JSON.parse(image.says['ENTRYPOINT'] ?? '')).toEqual([
    'tini',
    '--',
    'node',
    '/belay/dist/programs/belay.js',
  ]);
  expect(image.says['HEALTHCHECK']).toMatch(/--interval=\d+s --timeout=\d+s/);
  const installed = dockerfile.filter(({ rest }) => rest.startsWith('apt-get')).map(({ rest }) => rest);
  expect(installed).toEqual([expect.stringContaining(' tini &&')]);
});

it('every service of docker-compose.yml has settings that Belay takes, and containment and isolation are named', () => {
  const { orchestrator, worker } = compose.services;
  for (const service of [orchestrator, worker]) {
    const settings = readSettings({ ...image.env, ...service.environment, BELAY_TOKEN: TOKEN });
    expect(settings).toMatchObject({ valkeyUrl: 'redis://valkey:6379', workDir: '/belay/work' });
    const graceMs = parseDuration(String(service['stop_grace_period'])) ?? 0;
    expect(graceMs).toBeGreaterThan(settings.stopTimeoutMs + settings.graceMs);
    expect(service).toMatchObject({
      image: 'belayd',
      build: '.',
      restart: 'unless-stopped',
      read_only: true,
      depends_on: { valkey: { condition: 'service_healthy' } },
    });
  }
  expect(worker).toMatchObject({
    deploy: { replicas: 3 },
    environment: { BELAY_CONTAINMENT: 'descent', BELAY_ISOLATION: 'same-user' },
  });
  // A worker does not need the admin token.
  expect(Object.keys(worker.environment ?? {})).not.toContain('BELAY_TOKEN');
});

it('Valkey keeps its state, nothing listens beyond this machine, and written files lie on a volume', () => {
  const { valkey, orchestrator, worker } = compose.services;
  expect(valkey.command.join(' ')).toMatch(/--appendonly yes .*--maxmemory-policy noeviction/);
  expect(valkey).toMatchObject({ healthcheck: { test: ['CMD', 'valkey-cli', 'ping'] } });
  for (const service of [valkey, orchestrator, worker])
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
  const volumes = [valkey, orchestrator, worker].flatMap((service) => service.volumes ?? []);
  const named = volumes.flatMap((volume) => (typeof volume === 'string' ? (volume.split(':')[0] ?? '') : []));
  expect(named.toSorted()).toEqual(Object.keys(compose.volumes).toSorted());
  const written = (worker.volumes ?? []).map((volume) =>
    typeof volume === 'string' ? volume.split(':')[1] : volume.target,
  );
  expect(new Set(written)).toEqual(new Set([image.env['BELAY_DATA_DIR'], image.env['BELAY_WORK_DIR']]));
});

it('the replayed image runs the orchestrator and a worker of docker-compose.yml: healthy, at work, and drained', async () => {
  const orchestrator = start('orchestrator', { BELAY_HTTP_HOST: '127.0.0.1', BELAY_HTTP_PORT: '0' });
  const worker = start('worker', { BELAY_WORKER_HTTP_PORT: '0' });
  try {
    const url = await said(orchestrator, /"url":"([^"]+)"/);
    const port = await said(worker, /"port":(\d+)/);
    expect(worker.log).toContain('"containment":"descent"');
    expect(check({ BELAY_HTTP_PORT: new URL(url).port, BELAY_WORKER_HTTP_PORT: '1' })).toBe(0);
    expect(check({ BELAY_HTTP_PORT: '1', BELAY_WORKER_HTTP_PORT: port })).toBe(0);
    expect(check({ BELAY_HTTP_PORT: '1', BELAY_WORKER_HTTP_PORT: '1' })).toBe(1);

    const client = createClient({ url, token: TOKEN });
    const run = { command: ['pwd > here'], shell: true };
    const { execution } = await client.createExecution({ name: 'contained', nodes: [{ id: 'a', run }] });
    expect(await client.waitForEnd(execution.id)).toMatchObject({ state: 'completed' });
    const work = inImage(image.env['BELAY_WORK_DIR'] ?? '');
    expect(readFileSync(join(work, 'here'), 'utf8')).toBe(`${work}\n`);

    for (const { child, exit } of [worker, orchestrator]) {
      child.kill('SIGTERM');
      expect(await exit).toEqual([0, null]);
    }
  } finally {
    for (const { child } of [worker, orchestrator]) if (child.exitCode === null) child.kill('SIGKILL');
  }
});

interface Container {
  readonly child: ChildProcess;
  readonly exit: Promise<unknown[]>;
  readonly log: string;
}

/** Starts the command of a service as Docker would, with the paths of the replayed tree and ports of this machine. */
function start(name: 'orchestrator' | 'worker', more: Record<string, string>): Container {
  const { command, environment = {} } = compose.services[name];
  const [, , node = '', program = ''] = JSON.parse(image.says['ENTRYPOINT'] ?? '') as string[];
  const given = { ...image.env, ...environment };
  const env = {
    ...bareEnvironment(directory),
    ...given,
    BELAY_DATA_DIR: inImage(given['BELAY_DATA_DIR'] ?? ''),
    BELAY_WORK_DIR: inImage(given['BELAY_WORK_DIR'] ?? ''),
    BELAY_VALKEY_URL: server.url,
    ...(environment['BELAY_TOKEN'] === undefined ? {} : { BELAY_TOKEN: TOKEN }),
    ...more,
  };
  expect(node).toBe('node');
  const child = spawn(process.execPath, [inImage(program), ...command], { cwd: inImage(image.cwd), env });
  let log = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (log += text));
  return {
    child,
    exit: once(child, 'exit'),
    get log() {
      return log;
    },
  };
}

async function said(container: Container, what: RegExp): Promise<string> {
  await eventually(
    () =>
      (/"msg":"running"/.test(container.log) && what.test(container.log)) ||
      container.child.exitCode !== null,
    String(what),
  );
  const found = what.exec(container.log)?.[1];
  if (found === undefined) throw new Error(`It ended: ${container.log}`);
  return found;
}

/** The exit code of the image's health check. */
function check(env: Record<string, string>): number | null {
  const [, words = ''] = /CMD (\[.*\])$/.exec(image.says['HEALTHCHECK'] ?? '') ?? [];
  const [, ...args] = JSON.parse(words) as string[];
  return spawnSync(process.execPath, args, { env }).status;
}

const inImage = (path: string): string => join(image.root, path);
