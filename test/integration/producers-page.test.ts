import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { startFleet, type Fleet } from '../support/fleet';

const ROOT = resolve(__dirname, '../..');
const PAGE = readFileSync(join(ROOT, 'docs/producers.md'), 'utf8');

/** The fenced blocks of that language, in order. */
const blocks = (language: string): string[] =>
  [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, text = '']) => text);

let fleet: Fleet;
let dir: string;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1 });
  dir = mkdtempSync(join(tmpdir(), 'belay-producer-'));
});
afterAll(async () => {
  await fleet.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Installs the packages that the page names; no other package can be imported from there. */
function install(): string[] {
  const named = /^npm i (.+)$/m.exec(blocks('sh')[0] ?? '')?.[1]?.split(' ') ?? [];
  for (const name of named) {
    const place = join(dir, 'node_modules', name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules', name), place);
  }
  return named;
}

it('R70 docs/producers.md works as it is written, also with the server behind a socket', async () => {
  const named = install();
  const { peerDependencies = {}, peerDependenciesMeta = {} } = JSON.parse(
    readFileSync(join(ROOT, 'node_modules/bullmq/package.json'), 'utf8'),
  ) as Record<string, Record<string, { optional?: boolean }>>;
  const needed = Object.keys(peerDependencies).filter(
    (name) => peerDependenciesMeta[name]?.optional !== true,
  );
  expect(named).toEqual(expect.arrayContaining(['bullmq', ...needed]));
  // One of the clients that BullMQ accepts is installed, although BullMQ calls each of them optional.
  expect(named).toContain('ioredis');

  writeFileSync(join(dir, 'submit.mjs'), blocks('js')[0] ?? '');
  const { url } = fleet.server;
  expect(url).toMatch(/^unix:\/\/\//);
  const { stdout } = await promisify(execFile)(process.execPath, ['submit.mjs'], {
    cwd: dir,
    env: { PATH: process.env['PATH'], BELAY_VALKEY_URL: url },
    timeout: 60_000,
  });
  expect(stdout).toMatch(/executionId: 'exe_/);
  expect(stdout).toContain("status: 'completed'");
});
