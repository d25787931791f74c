import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { AuditVerdict, ExecutionRecord, Latch, Receipt, StopResponse } from '#libs/contracts';
import { convertWfFormat } from '#libs/executions';
import { ready } from '../support/executions';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';
import { procEntry, expectedGrade } from '../support/proc';

const PROVED = expectedGrade();

const MAIN = resolve(__dirname, '../../dist/programs/belay.js');

let fleet: Fleet;
let cwd: string;
beforeAll(async () => {
  fleet = await startFleet({ workers: 2, env: { BELAY_GRACE_MS: '300', BELAY_POOLS: 'default,gpu' } });
  cwd = mkdtempSync(join(tmpdir(), 'belay-cli-'));
});
/** No test may keep the next one from starting. */
afterEach(async () => {
  for (const { id } of (await fleet.client.latches()).items)
    await fleet.client.releaseLatch(id, 'end of test');
});
afterAll(async () => {
  await fleet.stop();
  rmSync(cwd, { recursive: true, force: true });
});

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
  expect(shown.out).toContain('reason user_abort by admin: by a test');
  expect(shown.out).toContain(`2 targets: 2 killed\ncomplete: every target is confirmed${PROVED}\n`);
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

it('R14 logs follow every attempt of an execution to its end, each line whole', async () => {
  const file = join(cwd, 'two.yaml');
  writeFileSync(
    file,
    'name: two\nnodes:\n' +
      '  - { id: a, run: { shell: true, command: ["printf first; sleep 0.2; echo; printf \'%s\' last"] } }\n' +
      '  - { id: b, dependsOn: [a], maxAttempts: 2, backoff: { delayMs: 10 }, run: { shell: true, command: ["echo try; [ $BELAY_ATTEMPT = 2 ]"] } }\n',
  );
  const { id } = JSON.parse((await belay('run', file, '--json')).out) as ExecutionRecord;
  const { code, out, err } = await belay('logs', '-f', id);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  // The agents are followed side by side: only the lines of one node have an order.
  const linesOf = (node: string): string[] => out.split('\n').filter((line) => line.startsWith(`${node} | `));
  expect(linesOf('a')).toEqual(['a | first', 'a | last']);
  expect(linesOf('b')).toEqual(['b | try', 'b | try']);
  expect(out.match(/\n/g)).toHaveLength(4);
  expect((await fleet.client.execution(id)).state).toBe('completed');
  expect((await belay('logs', id)).out).toBe('a | first\na | last\nb | try\n');
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
  expect(doctor.out).toMatch(
    /^warn +isolation +same-user: an agent can do what the user of its worker can$/m,
  );
  expect(doctor.out).toMatch(/^ok {4}orchestrator +running at /m);
  expect(doctor.out.match(/^ok {4}worker /gm)).toHaveLength(2);
});

it('R55 kill --dry-run kills no agent, kill --all every agent', async () => {
  // Deaf, so that their execution is stopped before they are dead.
  const deaf = "trap '' TERM; echo ready; sleep 300";
  const { id } = JSON.parse(
    (await belay('run', spec('to-kill', deaf, deaf), '--json')).out,
  ) as ExecutionRecord;
  await ready(fleet.client, id, 2);
  const plan = await belay('kill', '--all', '--dry-run');
  expect(plan.out).toContain('killing everything would hit 2 agents');
  expect((await fleet.client.execution(id)).state).toBe('running');
  expect((await belay('kill', '--all')).code).toBe(2);
  expect((await fleet.client.execution(id)).state).toBe('running');
  const killed = await belay('kill', '--all', '--yes', '--grace', '2s');
  expect(killed).toMatchObject({ code: 0 });
  expect(killed.out).toContain(
    `2 targets: 2 killed\nstopped 1 execution: ${id}\ncomplete: every target is confirmed${PROVED}\n`,
  );
  expect(processesWith(id)).toEqual([]);
});

it('R55 kill --all --now kills everybody at once, whether or not their execution ends before it is stopped', async () => {
  const { id } = JSON.parse(
    (await belay('run', spec('at-once', 'sleep 300', 'sleep 300'), '--json')).out,
  ) as ExecutionRecord;
  await running(id, 2);
  const killed = await belay('kill', '--all', '--yes', '--now');
  expect(killed).toMatchObject({ code: 0, out: expect.stringContaining('2 targets: 2 killed\n') });
  expect(killed.out).toContain(`complete: every target is confirmed${PROVED}\n`);
  expect(processesWith(id)).toEqual([]);
});

/** A spec whose nodes have more than a script: a pool, labels. */
function specOf(name: string, nodes: readonly object[], more: object = {}): string {
  const file = join(cwd, `${name}.json`);
  writeFileSync(file, JSON.stringify({ name, nodes, onFailure: 'continue', ...more }));
  return file;
}
const SLEEP = { run: { command: ['sleep', '300'] }, maxAttempts: 1 };

it('R53 kill --pool latches: a run of that pool is refused, a node of it waits, and a release lets both go on', async () => {
  const nodes = [
    { id: 'cpu', ...SLEEP },
    { id: 'gpu', pool: 'gpu', ...SLEEP },
  ];
  const { id } = JSON.parse((await belay('run', specOf('mixed', nodes), '--json')).out) as ExecutionRecord;
  await running(id, 2);
  const plan = await belay('kill', '--pool', 'gpu', '--dry-run');
  expect(plan.out).toContain('killing pool gpu would hit 1 agent on 1 worker\n');
  expect(plan.out).toContain('a latch would be engaged over pool gpu');
  const killed = await belay('kill', '--pool', 'gpu', '--note', 'bad driver');
  expect(killed.code).toBe(0);
  expect(killed.out).toContain(`1 target: 1 killed\ncomplete: every target is confirmed${PROVED}\n`);
  const [, release = ''] = /release it with: belay release (lat_\w+) --note "why"\n/.exec(killed.out) ?? [];
  expect((await fleet.client.execution(id)).nodes.running).toBe(1);
  await belay('stop', id, '--now');

  const quick = { run: { command: ['true'] } };
  const refused = await belay('run', specOf('refused', [{ id: 'a', pool: 'gpu', ...quick }]));
  expect(refused).toMatchObject({ code: 1, out: '' });
  expect(refused.err).toContain(`belay: The latch ${release} covers pool gpu (by admin: "bad driver")`);
  const half = specOf('half', [
    { id: 'cpu', ...quick },
    { id: 'gpu', pool: 'gpu', ...quick },
  ]);
  const waits = JSON.parse((await belay('run', half, '--json')).out) as ExecutionRecord;
  await eventually(
    async () => ((await fleet.client.execution(waits.id)).nodes.completed === 1 ? true : undefined),
    'the other node is done',
  );
  expect((await fleet.client.node(waits.id, 'gpu')).state).toBe('ready');
  expect((await belay('latches')).out).toMatch(
    new RegExp(`^${release} +latch +pool gpu +admin .* bad driver$`, 'm'),
  );
  expect((await belay('doctor')).out).toMatch(/^warn +latches +engaged: 1 latch$/m);

  expect((await belay('release', release)).code).toBe(2);
  const released = await belay('release', release, '--note', 'driver mended');
  expect(released).toMatchObject({
    code: 0,
    out: `latch ${release} over pool gpu is released: nodes that waited may start\n`,
  });
  expect((await belay('watch', waits.id)).code).toBe(0);
  const again = await belay('release', release, '--note', 'again');
  expect(again.code).toBe(0);
  expect(again.out).toMatch(/was released by admin at .*Z: driver mended \(before this call\)\n$/);
});

it('R22 pause --mode freeze stops a real process, and resume lets it go on', async () => {
  const count = join(cwd, 'count');
  const script = `i=0; while :; do i=$((i+1)); echo $i > ${count}; sleep 0.02; done`;
  const { id } = JSON.parse((await belay('run', spec('to-freeze', script), '--json')).out) as ExecutionRecord;
  await running(id, 1);
  const counted = (): string => (existsSync(count) ? readFileSync(count, 'utf8') : '');
  await eventually(async () => counted() !== '', 'it counts');
  const paused = await belay('pause', id, '--mode', 'freeze', '--note', 'look at it');
  expect(paused).toMatchObject({ code: 0, err: `Resume it: belay resume ${id}\n` });
  expect(paused.out).toContain('paused by freeze: nothing starts, 1 agent stands still');
  expect(paused.out).toContain('1 target: 1 frozen\ncomplete: every target is confirmed\n');
  const [agent] = (await fleet.client.agents({ executionId: id })).items;
  expect(isHeldStill(agent?.pid ?? 0)).toBe(true);
  const stood = counted();
  // Two commands take longer than dozens of counts.
  expect((await belay('ps')).out).toMatch(new RegExp(`^${id} +to-freeze +frozen `, 'm'));
  expect((await belay('get', id)).out).toContain('paused by freeze: nothing starts, 1 agent stands still');
  expect(counted()).toBe(stood);
  const resumed = await belay('resume', id);
  expect(resumed.code).toBe(0);
  expect(resumed.out).toContain('1 target: 1 thawed\ncomplete: every target is confirmed\n');
  // A running shell is in state D too for the moment of each vfork; a frozen one stays so.
  await eventually(() => !isHeldStill(agent?.pid ?? 0), 'a shell that is held no more');
  await eventually(async () => counted() !== stood, 'it counts on');
  expect((await belay('stop', id, '--now')).code).toBe(0);
});

/** By its cgroup where it has one of its own, otherwise by its state. */
function isHeldStill(pid: number): boolean {
  const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? '';
  const mount = /^\d+ \d+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(
    readFileSync('/proc/self/mountinfo', 'utf8'),
  )?.[1];
  const isFrozen =
    mount !== undefined &&
    path.includes('belay-') &&
    readFileSync(join(mount, path, 'cgroup.events'), 'utf8').includes('frozen 1');
  // In D a shell waits for a vfork child that was stopped before its exec: the shell runs no instruction either.
  return isFrozen || ['T', 'D'].includes(procEntry(pid)?.state ?? '');
}

it('freeze --all freezes everything, a submit waits, and thaw of its id lets both go on', async () => {
  const file = spec('to-thaw', 'sleep 300');
  const { id } = JSON.parse((await belay('run', file, '--json')).out) as ExecutionRecord;
  await running(id, 1);
  const { latch } = JSON.parse((await belay('freeze', '--all', '--json')).out) as Receipt & { latch: Latch };
  expect(latch).toMatchObject({ kind: 'freeze', scope: { type: 'all' } });
  const later = JSON.parse((await belay('run', spec('later', 'true'), '--json')).out) as ExecutionRecord;
  const why = `1 node ready: freeze ${latch.id} covers it\n`;
  await eventually(async () => (await belay('get', later.id)).out.includes(why), 'get says why it waits');
  expect((await belay('release', latch.orderId ?? '', '--note', 'seen enough')).code).toBe(0);
  expect((await belay('watch', later.id)).code).toBe(0);
  const agentId = (await fleet.client.agents({ executionId: id })).items[0]?.id ?? '';
  expect((await belay('freeze', '--agent', agentId)).out).toContain('1 target: 1 frozen\n');
  expect((await belay('get', agentId)).out).toContain('running, frozen: its processes stand still\n');
  expect((await belay('thaw', agentId)).out).toContain('1 target: 1 thawed\n');
  expect((await belay('stop', id, '--now')).code).toBe(0);
});

it('R50 kill by labels reaches the agents with them and no others; the audit log of all of it is intact', async () => {
  const nodes = [
    { id: 'large', labels: { model: 'large' }, ...SLEEP },
    { id: 'small', labels: { model: 'small' }, ...SLEEP },
  ];
  const file = specOf('labelled', nodes, { labels: { team: 'data' } });
  const { id } = JSON.parse((await belay('run', file, '--json')).out) as ExecutionRecord;
  await running(id, 2);
  expect(await belay('kill', '-l', '')).toMatchObject({ code: 2, out: '' });
  const selector = 'team=data,model in (large,huge)';
  const killed = await belay('kill', '-l', selector, '--no-latch', '--now', '--json');
  const receipt = JSON.parse(killed.out) as Receipt;
  expect(receipt.targets.map(({ nodeId, outcome }) => [nodeId, outcome])).toEqual([['large', 'killed']]);
  expect(receipt.latch).toBeUndefined();
  expect((await fleet.client.node(id, 'small')).state).toBe('running');
  const closed = await belay('close', receipt.orderId, '--note', 'nothing is missing');
  expect(closed).toMatchObject({ code: 0, err: 'There was nothing to close.\n' });
  expect((await belay('stop', id, '--now')).code).toBe(0);

  const log = await belay('audit', '--limit', '20');
  expect(log.out.replaceAll(/ +/g, ' ')).toContain(` admin kill labels ${selector} `);
  expect(log.out).toContain(receipt.orderId);
  const verdict = JSON.parse((await belay('audit', 'verify', '--json')).out) as AuditVerdict;
  expect(verdict).toMatchObject({ intact: true, faults: [] });
  expect(verdict.receipts).toBeGreaterThan(3);
  const said = await belay('audit', 'verify');
  expect(said.code).toBe(0);
  expect(said.out).toMatch(/^intact: \d+ entries and \d+ receipts are unchanged\nhead [0-9a-f]{40}\n/);
});

it('R36 a WfFormat trace runs every task as a process, each after its parents, by its own events', async () => {
  const file = resolve(__dirname, '../../examples/workflow.wfformat.json');
  const submitted = await belay('run', file, '--time-scale', '0.01', '--json');
  const { id } = JSON.parse(submitted.out) as ExecutionRecord;
  const record = await fleet.client.waitForEnd(id, { giveUpAfterMs: 30_000 });
  expect(record).toMatchObject({ state: 'completed', nodes: { total: record.nodes.completed } });
  const trace = JSON.parse(readFileSync(file, 'utf8')) as {
    workflow: { specification: { tasks: { id: string; parents: string[] }[] } };
  };
  const { tasks } = trace.workflow.specification;
  // As it was submitted: ids that are no node ids were shortened.
  const { spec } = convertWfFormat(trace, { timeScale: 0.01 });
  const nodes = (spec as { nodes: { id: string; dependsOn?: string[] }[] }).nodes.map(
    ({ id: nodeId, dependsOn = [] }) => ({ id: nodeId, dependsOn }),
  );
  const edges = (lists: string[][]): number => lists.flat().length;
  expect(edges(nodes.map(({ dependsOn }) => dependsOn))).toBe(edges(tasks.map(({ parents }) => parents)));
  const events = await fleet.life.executions.events(id, '0-0', 10_000);
  const at = (type: string, nodeId: string): number =>
    events.findIndex((event) => event.type === type && event.nodeId === nodeId);
  expect(events.filter(({ type }) => type === 'agent.running')).toHaveLength(tasks.length);
  for (const { id: nodeId, dependsOn } of nodes)
    for (const parent of dependsOn) {
      expect(at('node.completed', parent)).toBeGreaterThanOrEqual(0);
      expect(at('node.running', nodeId)).toBeGreaterThan(at('node.completed', parent));
    }
});
