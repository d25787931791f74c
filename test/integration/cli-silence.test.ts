import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createClient } from '#libs/client';
import { eventually, startFleet, type Fleet, type Member } from '../support/fleet';

const MAIN = resolve(__dirname, '../../dist/programs/belay.js');

let fleet: Fleet;
let cwd: string;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1, env: { BELAY_GRACE_MS: '300' } });
  cwd = mkdtempSync(join(tmpdir(), 'belay-silent-'));
});
afterAll(async () => {
  // A suspended orchestrator would not see the drain.
  for (const { process } of fleet.orchestrators) process.kill('SIGCONT');
  await fleet.stop();
  rmSync(cwd, { recursive: true, force: true });
});

interface Running {
  readonly said: () => string;
  readonly exited: Promise<number | null>;
  signal(name: NodeJS.Signals): void;
}

function belay(urls: readonly string[], ...args: string[]): Running {
  const { PATH } = process.env;
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: { PATH, BELAY_URL: urls.join(','), BELAY_TOKEN: fleet.token },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  return {
    said: () => said,
    exited: new Promise((done) => child.once('close', (code) => done(code))),
    signal: (name) => void child.kill(name),
  };
}

/** The address of an orchestrator that no other test has killed. */
const urlOf = (member: Member): string => member.url ?? '';

async function sleeper(): Promise<string> {
  const { execution } = await fleet.client.createExecution({
    name: 'silent',
    nodes: [{ id: 'a', run: { command: ['sleep', '600'] } }],
  });
  await eventually(async () => (await fleet.client.execution(execution.id)).live === 1, 'its agent');
  return execution.id;
}

it('R50 an orchestrator that hangs and is killed has stored no stop, and nobody says that it has', async () => {
  const id = await sleeper();
  const hung = await fleet.addOrchestrator();
  hung.process.kill('SIGSTOP');
  const stop = belay([urlOf(hung)], 'stop', id);
  await eventually(async () => stop.said().includes('No answer from'), 'the word about the silence', 40_000);
  expect(stop.said()).toContain(`on each machine with workers: belay kill --local --execution ${id}`);
  stop.signal('SIGINT');
  expect(await stop.exited).toBe(130);
  hung.process.kill('SIGKILL');
  await hung.exited;
  expect(stop.said()).toContain('the order may not be stored');
  expect(stop.said()).not.toMatch(/durable|goes on|is stored/);
  // The message was true: the execution runs, the audit log knows no order.
  expect((await fleet.client.execution(id)).state).toBe('running');
  expect(JSON.stringify(await fleet.client.audit())).not.toContain(id);
  expect((await fleet.client.stop(id)).status).toBe('stopped');
});

it('a stop by a short id that no orchestrator looks up ends with exit code 5, and names the command that works without one', async () => {
  const id = await sleeper();
  const hung = await fleet.addOrchestrator();
  hung.process.kill('SIGSTOP');
  const stop = belay([urlOf(hung)], 'stop', id.slice(-8));
  expect(await stop.exited).toBe(5);
  expect(stop.said()).toMatch(
    /gave no answer within 30 s.*Without the orchestrator, on each machine with workers: belay kill --local/s,
  );
  hung.process.kill('SIGKILL');
  await fleet.client.stop(id);
});

it('R50 with another orchestrator known, a stop and a kill are given to that one', async () => {
  const id = await sleeper();
  const other = await sleeper();
  const hung = await fleet.addOrchestrator();
  hung.process.kill('SIGSTOP');
  const urls = [urlOf(hung), fleet.client.url];
  const stop = belay(urls, 'stop', id);
  const kill = belay(urls, 'kill', '--execution', other);
  expect([await stop.exited, await kill.exited]).toEqual([0, 0]);
  for (const ran of [stop, kill]) expect(ran.said()).toContain('complete: every target is confirmed');
  expect((await fleet.client.execution(id)).state).toBe('stopped');
  hung.process.kill('SIGKILL');
});

it('an order whose orchestrator dies after it was stored is told as stored, not as proved', async () => {
  const { execution } = await fleet.client.createExecution({
    name: 'deaf',
    graceMs: 60_000,
    nodes: [
      { id: 'a', run: { command: ['trap "" TERM; echo ready; while :; do sleep 0.1; done'], shell: true } },
    ],
  });
  await eventually(async () => {
    const { items } = await fleet.client.agents({ executionId: execution.id, state: ['running'] });
    const [agent] = items;
    return (
      agent !== undefined && (await fleet.client.logs(agent.id)).lines.some(({ line }) => line === 'ready')
    );
  }, 'its agent');
  const dying = await fleet.addOrchestrator();
  const stop = belay([urlOf(dying)], 'stop', execution.id);
  await eventually(
    async () => (await fleet.client.execution(execution.id)).state === 'stopping',
    'the stop',
    40_000,
  );
  // Between the two answers the command waits for the proof.
  await eventually(async () => stop.said().includes('waiting for proof'), 'the wait');
  dying.process.kill('SIGKILL');
  expect(await stop.exited).toBe(7);
  expect(stop.said()).toMatch(
    /Order ord_\w+ is stored, but no answer showed its proof: .* Look with: belay receipt ord_/s,
  );
  expect((await fleet.client.stop(execution.id, { mode: 'immediate' })).status).toBe('stopped');
});

it('R30 a submit whose orchestrator dies before it answers is one execution', async () => {
  const dying = await fleet.addOrchestrator();
  const client = createClient({ url: [urlOf(dying), fleet.client.url], token: fleet.token });
  const label = { run: 'lost-reply' };
  const nodes = Array.from({ length: 3_000 }, (_, i) => ({ id: `n${i}`, run: { command: ['true'] } }));
  const submit = client.createExecution({ name: 'lost', labels: label, nodes }, { start: false });
  // During the submit, or just after: either way there is one execution.
  await eventually(async () => (await fleet.life.valkey.redis.dbsize()) > 0, 'some of it');
  dying.process.kill('SIGKILL');
  const { execution } = await submit;
  const { items } = await fleet.client.executions({ labels: label });
  expect(items.map(({ id }) => id)).toEqual([execution.id]);
});
