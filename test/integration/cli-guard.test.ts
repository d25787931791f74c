import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient } from '#libs/client';
import type { AgentRecord, ArmedReport, DrillStatus } from '#libs/contracts';
import { eventually, processesWith, startFleet, type Fleet, type Member } from '../support/fleet';
import { isAlive, expectedGrade } from '../support/proc';

const PROVED = expectedGrade();

const MAIN = resolve(__dirname, '../../dist/programs/belay.js');
/** Long, so that the command ends the agents, and not a lease that ran out. */
const PATIENT = { BELAY_GRACE_MS: '300', BELAY_LEASE_TTL_MS: '60000', BELAY_PROOF_LIMIT_MS: '5000' };

let fleet: Fleet;
let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'belay-cli-'));
});
afterEach(async () => {
  await fleet.stop();
  rmSync(cwd, { recursive: true, force: true });
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(env: NodeJS.ProcessEnv, args: readonly string[]): Promise<Ran> {
  const own = { PATH: process.env['PATH'], BELAY_TEST_RUN: process.env['BELAY_TEST_RUN'] };
  const options = { cwd, env: { ...own, ...env }, timeout: 60_000 };
  return await new Promise((done) => {
    execFile(process.execPath, [MAIN, ...args], options, (error, out, err) => {
      done({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, out, err });
    });
  });
}

/** Runs a command that uses the orchestrator. */
const belay = async (...args: string[]): Promise<Ran> =>
  await run({ BELAY_URL: fleet.client.url, BELAY_TOKEN: fleet.token }, args);

/** Runs a command that has no token; it may look where the orchestrator was. */
const onTheMachine = async (...args: string[]): Promise<Ran> =>
  await run({ BELAY_URL: fleet.client.url, BELAY_DATA_DIR: fleet.dir }, args);

async function runTrees(count: number): Promise<{ id: string; agents: AgentRecord[] }> {
  // Each a tree: a shell, a sleep, and a sleep that left for a session of its own.
  const script = 'setsid sleep 600 & sleep 600 & echo ready; wait';
  const nodes = Array.from({ length: count }, (_, n) => ({
    id: `n${n}`,
    run: { command: [script], shell: true },
  }));
  const { execution } = await fleet.client.createExecution({ name: 'trees', nodes });
  const agents = await eventually(async () => {
    const { items } = await fleet.client.agents({ executionId: execution.id, state: ['running'] });
    return items.length === count ? [...items] : undefined;
  }, 'every agent runs');
  await eventually(async () => sleepsOf(execution.id).length === 2 * count, 'every tree has grown');
  return { id: execution.id, agents };
}

const sleepsOf = (id: string): number[] =>
  processesWith(id)
    .filter(({ command }) => command.startsWith('sleep 600'))
    .map(({ pid }) => pid);

const signal = (member: Member, name: NodeJS.Signals): void =>
  void process.kill(member.process.pid ?? 0, name);

function childOf(worker: Member, program: string): number {
  const pid = readdirSync('/proc').find((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${entry}/status`, 'latin1'))?.[1];
      const command = readFileSync(`/proc/${entry}/cmdline`, 'latin1');
      return parent === String(worker.process.pid) && command.includes(program);
    } catch {
      return false;
    }
  });
  if (pid === undefined) throw new Error(`${worker.id} has no ${program}`);
  return Number(pid);
}

it('R55 drill passes on every worker, says how fast, and --last and doctor show it afterwards', async () => {
  fleet = await startFleet({ workers: 2, env: PATIENT });
  const ids = fleet.workers.map(({ id }) => id);
  const never = await belay('drill', '--last');
  expect(never.code).toBe(1);
  for (const id of ids) expect(never.out).toContain(`never   ${id}\n        → belay drill --worker ${id}\n`);
  const before = await belay('doctor');
  for (const id of ids)
    expect(before.out).toMatch(
      new RegExp(`^warn +drill +${id} has passed no drill yet\n +→ belay drill --worker ${id}$`, 'm'),
    );

  const one = await belay('drill', '--worker', ids[0] ?? '');
  // The command reports a long wait, as on a busy machine.
  expect(one).toMatchObject({ code: 0, err: expect.stringMatching(/^(drilling .*\n)?$/) as string });
  expect(one.out).toMatch(
    /^passed {2}wrk_\w+ on .*: asked to signalled \d+ ms, asked to proved \d+ ms\n {8}deaf +killed, signalled \+\d+ ms, proved \+\d+ ms, needed SIGKILL\n/,
  );
  expect(one.out.endsWith('1 worker: 1 passed, 0 failed\n')).toBe(true);
  expect((await belay('drill', '--last', '--worker', ids[0] ?? '')).code).toBe(0);
  expect((await belay('drill', '--last')).code).toBe(1);

  const all = await belay('drill', '--json');
  expect(all.code).toBe(0);
  const { passed, items } = JSON.parse(all.out) as { passed: boolean; items: { canaries: object[] }[] };
  expect([passed, items.length]).toEqual([true, 2]);
  expect(items[0]?.canaries[0]).toMatchObject({
    name: 'deaf',
    outcome: 'killed',
    escalated: true,
    signalledMs: expect.any(Number) as number,
    provedMs: expect.any(Number) as number,
  });
  const last = await belay('drill', '--last', '--json');
  expect(last.code).toBe(0);
  const kept = (JSON.parse(last.out) as { items: DrillStatus[] }).items;
  expect(Object.fromEntries(kept.map((item) => [item.workerId, item.last?.passed]))).toEqual(
    Object.fromEntries(ids.map((id) => [id, true])),
  );
  const after = await belay('doctor');
  expect(after.out).toMatch(/^ok +armed +2 workers answered within .+$/m);
  expect(after.out).toMatch(/^ok +drill +2 workers passed, the oldest .* ago$/m);
  for (const id of ids) expect(processesWith(`BELAY_WORKER_ID=${id}`)).toEqual([]);
});

it('doctor names a worker that was killed, and its host', async () => {
  fleet = await startFleet({
    workers: 2,
    env: { ...PATIENT, BELAY_LEASE_TTL_MS: '4000', BELAY_HEARTBEAT_MS: '300' },
  });
  const [lost, other] = fleet.workers as [Member, Member];
  expect((await belay('doctor')).out).not.toContain('was lost');
  signal(lost, 'SIGKILL');
  const worker = fleet.life.workers;
  await eventually(async () => (await worker.get(lost.id)).state === 'stopped', 'the end of its lease');
  const { out } = await belay('doctor');
  expect(out).toMatch(
    new RegExp(
      `^warn +worker +${lost.id} on .+ was lost .+ ago: its lease ran out\\n +→ .*belay kill --local --all --dry-run$`,
      'm',
    ),
  );
  expect(out).not.toMatch(new RegExp(`${other.id} on .+ was lost`));
  const { items } = await fleet.client.workers({ lost: true });
  expect(items.map(({ id, state, reason }) => [id, state, reason])).toEqual([
    [lost.id, 'stopped', 'worker_lost'],
  ]);
  expect((await fleet.client.workers()).items.map(({ id }) => id)).toEqual([other.id]);
});

it('R55 a drill that a latch delays does not pass: it says why and gives advice', async () => {
  fleet = await startFleet({ workers: 1, env: PATIENT });
  await belay('latch', '--all', '--note', 'quiet night');
  const { code, out } = await belay('drill');
  expect(code).toBe(1);
  expect(out).toMatch(/^failed {2}wrk_\w+ on /);
  expect(out).toContain('latch');
  expect(out).toContain(`then: belay drill --worker ${fleet.workers[0]?.id}\n`);
});

it('R55 armed names each worker; one that is stopped is not armed, and a kill on its machine waits for it', async () => {
  fleet = await startFleet({ workers: 2, env: PATIENT });
  const [deaf, awake] = fleet.workers as [Member, Member];
  const well = await belay('armed');
  expect(well.code).toBe(0);
  for (const { id } of fleet.workers)
    expect(well.out).toMatch(
      new RegExp(`^armed +${id}  answered after .+, (cgroup|descent|marks), same-user, 0 agents$`, 'm'),
    );
  const { id } = await runTrees(1);
  signal(deaf, 'SIGSTOP');
  const ill = await belay('armed');
  expect(ill.code).toBe(1);
  expect(ill.out).toMatch(new RegExp(`^armed +${awake.id} `, 'm'));
  expect(ill.out).toContain(`not armed   ${deaf.id}  no answer within 2000 ms\n`);
  expect(ill.out).toContain('2 workers: 1 armed, 1 not\n');
  const { armed, workers } = JSON.parse((await belay('armed', '--json')).out) as ArmedReport;
  expect([armed, workers.filter((worker) => worker.armed).length]).toEqual([false, 1]);
  expect((await belay('doctor')).out).toMatch(new RegExp(`^fail +armed +${deaf.id} is not armed`, 'm'));

  const killed = await onTheMachine('kill', '--local', '--all', '--yes', '--now');
  expect(killed.code).toBe(7);
  expect(killed.out).toMatch(
    new RegExp(
      `^not reached   ${deaf.id}: no answer within 5000 ms: it is stopped or hangs; it carries out the kill when it wakes$`,
      'm',
    ),
  );
  expect(killed.out).toContain(`kill -9 ${deaf.process.pid}\n`);
  expect(killed.out).toContain('1 worker not reached');
  signal(deaf, 'SIGCONT');
  await eventually(async () => processesWith(id).length === 0, 'the stopped one has done it too');
});

it('R55 kill --local ends and proves real trees with the orchestrator and the server killed, and is told later', async () => {
  fleet = await startFleet({ workers: 2, env: PATIENT, server: { appendonly: true } });
  const { id, agents } = await runTrees(4);
  const [orchestrator] = fleet.orchestrators as [Member];
  signal(orchestrator, 'SIGKILL');
  await orchestrator.exited;
  await fleet.server.kill9();
  const pids = processesWith(id).map(({ pid }) => pid);
  expect(pids.length).toBeGreaterThanOrEqual(12);

  const away = await onTheMachine('kill', '--all', '--yes');
  expect(away).toMatchObject({ code: 5, out: '' });
  expect(away.err).toContain('on each machine with workers: belay kill --local --all\n');
  const plan = await onTheMachine('kill', '--local', '--all', '--dry-run');
  expect(plan.code).toBe(0);
  expect(plan.out).toContain('killing everything would hit 4 agents on ');
  expect(await onTheMachine('kill', '--local', '--all')).toMatchObject({ code: 2, out: '' });
  expect(pids.every(isAlive)).toBe(true);

  const agent = agents[0] as AgentRecord;
  const first = await onTheMachine('kill', '--local', '--agent', agent.id);
  expect(first.code).toBe(0);
  expect(first.out).toMatch(new RegExp(`^killed +n\\d  ${agent.id} on ${agent.owner}$`, 'm'));
  expect(first.out).toContain(
    `1 target: 1 killed\ncomplete: every target is confirmed${PROVED}, on 2 workers`,
  );
  expect(sleepsOf(id)).toHaveLength(6);

  const all = await onTheMachine('kill', '--local', '--all', '--yes', '--now', '--note', 'fire');
  expect(all).toMatchObject({ code: 0, err: '' });
  // The first agent is listed again, killed as its record will say: a worker keeps an end that it could not store yet.
  expect(all.out.match(/proved dead after \d+ ms/g)).toHaveLength(4);
  expect(all.out).toContain(
    `4 targets: 4 killed\ncomplete: every target is confirmed${PROVED}, on 2 workers`,
  );
  for (const { id: workerId } of fleet.workers) expect(all.out).toContain(workerId);
  expect(all.out).toContain(' take no work; once the server answers each engages a latch for itself\n');
  expect(pids.filter(isAlive)).toEqual([]);
  expect(processesWith(id)).toEqual([]);
  const again = await onTheMachine('kill', '--local', '--all', '--yes', '--json');
  expect(again.code).toBe(0);
  expect(JSON.parse(again.out)).toMatchObject({ complete: true, unreached: [] });

  await fleet.server.restart();
  const { url = '' } = await fleet.addOrchestrator();
  const client = createClient({ url, token: fleet.token });
  await eventually(async () => (await client.latches()).items.length >= 2, 'the latches of both workers');
  const { items } = await client.audit();
  const acts = items.filter(({ act }) => act === 'break-glass');
  expect(acts.some(({ note, by }) => note === 'fire' && by?.includes('@') === true)).toBe(true);
});

it('kill --local counts no worker that ended with nothing left, and names one whose end nobody saw', async () => {
  fleet = await startFleet({ workers: 2, env: PATIENT });
  const [gone, other] = fleet.workers as [Member, Member];
  signal(gone, 'SIGKILL');
  await gone.exited;
  // The guardian ends the worker's trees, and removes its record.
  const settled = async (): Promise<boolean> =>
    (await onTheMachine('kill', '--local', '--worker', gone.id)).code === 0;
  await eventually(settled, 'the guardian has looked');
  const { id } = await runTrees(2);
  const { code, out } = await onTheMachine('kill', '--local', '--execution', id, '--now');
  expect(code).toBe(0);
  expect(out).toContain(`complete: every target is confirmed${PROVED}, on 1 worker of this machine\n`);
  expect(out).toContain('no latch is engaged: new agents may start in the scope\n');
  expect(out).toContain(other.id);
  expect(sleepsOf(id)).toEqual([]);

  const left = await runTrees(1);
  const guardian = childOf(other, 'guardian-main');
  // Stopped first, so that neither sees the other die.
  process.kill(guardian, 'SIGSTOP');
  signal(other, 'SIGKILL');
  process.kill(guardian, 'SIGKILL');
  await other.exited;
  const unseen = await onTheMachine('kill', '--local', '--all', '--yes');
  expect(unseen.code).toBe(7);
  expect(unseen.out).toContain(`not reached   ${other.id}: nobody listens on its socket\n`);
  expect(unseen.out).toContain('1 agent of it may still run: pids ');
  expect(unseen.out).toContain('else the next worker that starts here: belay worker\n');
  await fleet.addWorker();
  expect(processesWith(left.id)).toEqual([]);
  expect((await onTheMachine('kill', '--local', '--all', '--yes')).code).toBe(0);

  const absent = await onTheMachine('kill', '--local', '--all', '--yes', '--data-dir', cwd);
  expect(absent).toMatchObject({ code: 4, out: '' });
  expect(absent.err).toContain(`belay: No worker keeps files in ${cwd}.`);
});
