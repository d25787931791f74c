import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { ExecutionRecord, Receipt, StopResponse } from '#libs/contracts';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';

const MAIN = resolve(__dirname, '../../dist/apps/cli/src/main.js');

let fleet: Fleet;
let cwd: string;
beforeAll(async () => {
  fleet = await startFleet({ workers: 2, env: { BELAY_GRACE_MS: '300' } });
  cwd = mkdtempSync(join(tmpdir(), 'belay-cli-'));
}, 120_000);
afterAll(async () => {
  await fleet.stop();
  rmSync(cwd, { recursive: true, force: true });
}, 60_000);

const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'],
  BELAY_URL: fleet.client.url,
  BELAY_TOKEN: fleet.token,
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
async function belay(...args: string[]): Promise<Ran> {
  return await new Promise((done) => {
    execFile(
      process.execPath,
      [MAIN, ...args],
      { cwd, env: environment(), timeout: 60_000 },
      (error, out, err) => {
        done({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, out, err });
      },
    );
  });
}
function start(...args: string[]): {
  child: ChildProcess;
  text: () => string;
  exited: Promise<number | null>;
} {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { child, text: () => text, exited: new Promise((done) => child.once('exit', (code) => done(code))) };
}
function spec(name: string, ...scripts: string[]): string {
  const nodes = scripts.map((script, n) => ({
    id: `n${n}`,
    run: { command: [script], shell: true },
    maxAttempts: 1,
  }));
  const file = join(cwd, `${name}.json`);
  writeFileSync(file, JSON.stringify({ name, nodes }));
  return file;
}
async function running(id: string, count: number): Promise<void> {
  await eventually(async () => {
    const { nodes } = await fleet.client.execution(id);
    return nodes.running === count ? true : undefined;
  }, `${count} nodes of ${id} running`);
}

it.each([
  ['completed', 0, 'true'],
  ['failed', 1, 'exit 3'],
])('run --watch of an execution that %s exits %i', async (state, code, script) => {
  const ran = await belay('run', spec(state, script), '--watch');
  expect(ran).toMatchObject({ code });
  expect(ran.out).toContain(state);
});

it('R50 stop shows the receipt with evidence, and nothing is left', async () => {
  const file = spec('to-stop', "trap '' TERM; sleep 300", 'sleep 300');
  const { id } = JSON.parse((await belay('run', file, '--json')).out) as ExecutionRecord;
  await running(id, 2);
  const watch = start('watch', id);
  await eventually(
    async () => (watch.text().includes('running') ? true : undefined),
    'the watch shows progress',
  );
  const { code, out } = await belay('stop', id, '--json', '--note', 'by a test');
  expect(code).toBe(0);
  const response = JSON.parse(out) as StopResponse;
  expect(response).toMatchObject({ status: 'stopped', reason: 'user_abort', receipt: { complete: true } });
  expect(response.receipt?.targets.every(({ report }) => report?.proved === true)).toBe(true);
  expect(processesWith(id)).toEqual([]);
  expect(await watch.exited).toBe(3);
  const shown = await belay('get', id);
  expect(shown.out).toContain('reason user_abort by api: by a test');
  expect(shown.out).toContain('2 targets: 2 killed\ncomplete: every target is confirmed\n');
  const receipt = await belay('receipt', response.receipt?.orderId ?? '', '--json');
  expect((JSON.parse(receipt.out) as Receipt).complete).toBe(true);
});

it('logs follow a running agent to its end, in order and once', async () => {
  const file = spec('talkative', 'for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done');
  const { id } = JSON.parse((await belay('run', file, '--json')).out) as ExecutionRecord;
  await eventually(
    async () => ((await fleet.client.node(id, 'n0')).attempt > 0 ? true : undefined),
    'it is claimed',
  );
  expect(await belay('logs', '-f', `${id}/n0`)).toEqual({
    code: 0,
    out: 'line 1\nline 2\nline 3\nline 4\nline 5\n',
    err: '',
  });
});

it('Ctrl-C detaches a watch and leaves the execution alone', async () => {
  const { id } = JSON.parse(
    (await belay('run', spec('detached', 'sleep 300'), '--json')).out,
  ) as ExecutionRecord;
  await running(id, 1);
  const watch = start('watch', id);
  await eventually(
    async () => (watch.text().includes('running') ? true : undefined),
    'the watch shows progress',
  );
  watch.child.kill('SIGINT');
  expect(await watch.exited).toBe(130);
  expect(watch.text()).toContain(`Stop it: belay stop ${id}`);
  expect((await fleet.client.execution(id)).state).toBe('running');
  expect((await belay('stop', id, '--now')).code).toBe(0);
});

it('survives a reader that goes away', async () => {
  const child = start('ps', '--all', '--json');
  child.child.stdout?.destroy();
  expect(await child.exited).toBe(0);
  expect(child.text()).not.toContain('EPIPE');
});

it('ps, workers and doctor agree with the fleet', async () => {
  const list = JSON.parse((await belay('ps', '--all', '--json')).out) as { items: unknown[] };
  expect(list.items.length).toBeGreaterThan(3);
  expect((await belay('workers')).out.match(/wrk_/g)).toHaveLength(2);
  const doctor = await belay('doctor');
  expect(doctor.out).toMatch(/^ok {4}orchestrator +running at /m);
  expect(doctor.out.match(/^ok {4}worker /gm)).toHaveLength(2);
});

it('R55 kill --dry-run hits nobody, kill --all everybody', async () => {
  const { id } = JSON.parse(
    (await belay('run', spec('to-kill', 'sleep 300', 'sleep 300'), '--json')).out,
  ) as ExecutionRecord;
  await running(id, 2);
  const plan = await belay('kill', '--all', '--dry-run');
  expect(plan.out).toContain('killing everything would hit 2 agents');
  expect((await fleet.client.execution(id)).state).toBe('running');
  expect((await belay('kill', '--all')).code).toBe(2);
  expect((await fleet.client.execution(id)).state).toBe('running');
  const killed = await belay('kill', '--all', '--yes', '--now');
  expect(killed).toMatchObject({ code: 0 });
  expect(killed.out).toContain('2 targets: 2 killed\ncomplete: every target is confirmed\n');
  expect(processesWith(id)).toEqual([]);
});
