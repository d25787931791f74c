import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createClient, type BelayClient } from '#libs/client';
import type { QuestionRecord } from '#libs/contracts';
import { QuestionStore } from '#libs/lifecycle';
import { ended, ready } from '../support/executions';
import { eventually } from '../support/fleet';
import { fleetPerTest } from '../support/own-fleet';

const { fleet, begin, it } = fleetPerTest();
const ROOT = resolve(__dirname, '../..');
const ASKS = join(ROOT, 'test/fixtures/asks.cjs');
const book = (): string => join(fleet.dir, 'book');

/** The example of docs/approvals.md. */
const EXAMPLE = readFileSync(join(ROOT, 'examples/approval.yaml'), 'utf8');

/** A PATH on which agents find `belay`. */
function pathWithBelay(dir: string): string {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'belay'), `#!/bin/sh\nexec node ${join(ROOT, 'dist/programs/belay.js')} "$@"\n`);
  chmodSync(join(dir, 'belay'), 0o755);
  return `${dir}:${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`;
}

async function asked(client: Pick<BelayClient, 'asks'>, count: number): Promise<QuestionRecord[]> {
  return eventually(async () => {
    const { items } = await client.asks({ limit: 1_000 });
    return items.length === count && [...items];
  }, `${count} open questions`);
}

const asking = (count: number, nodes = 1) => ({
  name: 'asks',
  nodes: Array.from({ length: nodes }, (_, i) => ({
    id: `n${i}`,
    maxAttempts: 3,
    backoff: { type: 'fixed', delayMs: 0 },
    run: { command: [process.execPath, ASKS, String(count), book()] },
  })),
});

it('the example of docs/approvals.md asks, a person answers, and the audit log has the text that was seen', async () => {
  const page = readFileSync(join(ROOT, 'docs/approvals.md'), 'utf8');
  expect(page).toContain(EXAMPLE);
  await begin({ workers: 0 });
  await fleet.addWorker({ PATH: pathWithBelay(join(fleet.dir, 'bin')) });
  const { client } = fleet;
  const { parse } = jest.requireActual<{ parse: (text: string) => unknown }>('yaml');
  const { execution } = await client.createExecution(parse(EXAMPLE));
  const [question] = await asked(client, 1);
  const { id = '', hash = '' } = question ?? {};
  expect(question).toMatchObject({
    executionId: execution.id,
    nodeId: 'deploy',
    question: 'Deploy build 5?',
    choices: ['yes', 'no'],
    detail: { build: 5 },
    state: 'open',
  });

  // A hash of other words is refused, and the question stays open.
  const other = hash.replace(/^./, (first) => (first === '0' ? '1' : '0'));
  await expect(client.answer(id, { choice: 'yes', hash: other })).rejects.toMatchObject({
    code: 'QUESTION_CHANGED',
  });
  await expect(client.answer(id, { choice: 'maybe', hash })).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
  });
  await expect(client.answer(id, { hash: 'x' } as never)).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
    problems: [{ path: 'choice' }, { path: 'hash' }],
  });
  expect(await client.ask(id)).toEqual(question);

  const answers = await Promise.allSettled([
    client.answer(id, { choice: 'yes', hash, reason: 'the build is green' }),
    client.answer(id, { choice: 'no', hash }),
  ]);
  const won = answers.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  expect(won).toHaveLength(1);
  expect(answers.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'QUESTION_CLOSED' },
  });
  expect(await ended(client, execution.id)).toMatchObject({ state: 'completed' });
  const [agent] = (await client.agents({ executionId: execution.id })).items;
  const { lines } = await client.logs(agent?.id ?? '');
  const [{ answer } = {}] = won;
  expect(lines.map(({ line }) => line)).toContain(answer === 'yes' ? 'deployed' : 'not deployed: no');
  const { items } = await client.audit();
  expect(items.filter(({ act }) => act.startsWith('ask.'))).toMatchObject([
    {
      act: 'ask.answered',
      by: 'admin',
      questionId: id,
      question: 'Deploy build 5?',
      detail: '{"build":5}',
      answer,
    },
  ]);
  expect(await client.verifyAudit()).toMatchObject({ intact: true });
});

it('a kill cancels the questions of its agents, and nobody answers them any more', async () => {
  await begin({ workers: 1 });
  const { client } = fleet;
  const { execution } = await client.createExecution(asking(3));
  const [question] = await asked(client, 3);
  const { id = '', hash = '' } = question ?? {};
  await client.stop(execution.id, { mode: 'immediate' });
  expect((await client.asks()).items).toEqual([]);
  const all = (await client.asks({ executionId: execution.id })).items;
  expect(all.map(({ state, why }) => `${state} ${why}`)).toEqual(Array(3).fill('cancelled ended'));
  await expect(client.answer(id, { choice: 'yes', hash })).rejects.toMatchObject({ code: 'QUESTION_CLOSED' });
  const types: string[] = [];
  for await (const { type } of client.events(execution.id)) types.push(type);
  expect(types.filter((type) => type.startsWith('ask.')).toSorted()).toEqual([
    ...Array<string>(3).fill('ask.cancelled'),
    ...Array<string>(3).fill('ask.created'),
  ]);
  expect(existsSync(book())).toBe(false);
});

it('an agent that is to stand still while it waits does, and goes on with its answer', async () => {
  await begin({ workers: 1 });
  const { client } = fleet;
  const ticks = join(fleet.dir, 'ticks');
  const belay = `node ${join(ROOT, 'dist/programs/belay.js')}`;
  const script = `(while :; do echo x >>${ticks}; sleep 0.05; done) & ticker=$!; ${belay} ask "Go on?" --freeze; kill $ticker`;
  const { execution } = await client.createExecution({
    name: 'asks',
    nodes: [{ id: 'a', maxAttempts: 1, run: { shell: true, command: [script] } }],
  });
  const [question] = await asked(client, 1);
  const agent = await eventually(async () => {
    const { items } = await client.agents({ executionId: execution.id });
    return items[0]?.frozen === true && items[0];
  }, 'a frozen agent');
  const before = readFileSync(ticks, 'utf8');
  const { id = '', hash = '' } = question ?? {};
  expect(readFileSync(ticks, 'utf8')).toBe(before);
  await client.answer(id, { choice: 'yes', hash });
  expect(await ended(client, execution.id)).toMatchObject({ state: 'completed' });
  expect(readFileSync(ticks, 'utf8').length).toBeGreaterThan(before.length);
  expect((await client.logs(agent.id)).lines.map(({ line }) => line)).toContain('yes');
  const types: string[] = [];
  for await (const { type } of client.events(execution.id)) types.push(type);
  expect(types.filter((type) => /ask|frozen|thawed/.test(type))).toEqual([
    'ask.created',
    'agent.frozen',
    'ask.answered',
    'agent.thawed',
  ]);
});

it('a deadline that passes with worker, orchestrator and server down is a denial', async () => {
  await begin({ workers: 1, server: { appendonly: true } });
  const ask = `node ${join(ROOT, 'dist/programs/belay.js')} ask "Deploy?" --timeout 2s`;
  const { execution } = await fleet.client.createExecution({
    name: 'asks',
    nodes: [{ id: 'a', maxAttempts: 1, run: { shell: true, command: [`${ask}; sleep 600`] } }],
  });
  const created = await eventually(async () => {
    const [question] = (await fleet.client.asks({ executionId: execution.id })).items;
    return question;
  }, 'the question');
  const [worker] = fleet.workers;
  const [orchestrator] = fleet.orchestrators;
  worker?.process.kill('SIGKILL');
  orchestrator?.process.kill('SIGKILL');
  await Promise.all([worker?.exited, orchestrator?.exited, fleet.server.kill9()]);
  await eventually(() => Date.now() > created.deadlineAt, 'the deadline');
  await fleet.server.restart();
  // Only the server lives, and this reader.
  const questions = new QuestionStore(fleet.life.shards);
  expect(await questions.get(created.id)).toMatchObject({
    state: 'denied',
    why: 'deadline',
    answer: 'denied',
    endedAt: created.deadlineAt,
  });
  const late = { choice: 'yes', hash: created.hash, by: 'late', answerId: 'r' };
  await expect(questions.answer(created.id, late)).rejects.toMatchObject({ code: 'QUESTION_CLOSED' });
});

it('of 100 questions none is lost and none answered twice: worker, orchestrator and server are killed while they wait', async () => {
  await begin({
    workers: 1,
    server: { appendonly: true },
    env: { BELAY_LEASE_TTL_MS: '8000', BELAY_GRACE_MS: '300' },
  });
  const { execution } = await fleet.client.createExecution(asking(25, 4));
  await ready(fleet.client, execution.id, 4);
  const before = await asked(fleet.client, 100);

  // The server and the orchestrator die: the agents still wait, and every question is there again.
  const [orchestrator] = fleet.orchestrators;
  orchestrator?.process.kill('SIGKILL');
  await Promise.all([orchestrator?.exited, fleet.server.kill9()]);
  await fleet.server.restart();
  const { url = '' } = await fleet.addOrchestrator();
  const client = createClient({ url, token: fleet.token });
  expect(await asked(client, 100)).toEqual(before);
  const half = before.slice(0, 50);
  await race(client, half);
  await eventually(() => recorded().length === 50, 'the answers of the first attempts');

  // The worker dies: its attempts end, and so do their questions. The next attempts ask again.
  const [worker] = fleet.workers;
  worker?.process.kill('SIGKILL');
  await worker?.exited;
  await fleet.addWorker();
  const again = await eventually(async () => {
    const { items } = await client.asks({ limit: 1_000 });
    return items.length === 100 && items.every(({ attempt }) => attempt === 2) && [...items];
  }, 'the questions of the second attempts');
  await race(client, again);
  expect(await ended(client, execution.id)).toMatchObject({ state: 'completed' });

  const all = (await client.asks({ executionId: execution.id, limit: 1_000 })).items;
  const states = all.map(({ attempt, state }) => `${attempt} ${state}`);
  expect(count(states)).toEqual({ '1 answered': 50, '1 cancelled': 50, '2 answered': 100 });
  // Each agent got each answer once, and it is the stored one.
  const stored = all
    .filter(({ state }) => state === 'answered')
    .map(({ attempt, id, answer }) => `${attempt} ${id} ${answer}`);
  expect(recorded().toSorted()).toEqual(stored.toSorted());
  const closed: string[] = [];
  for await (const { type, data } of client.events(execution.id))
    if (type.startsWith('ask.') && type !== 'ask.created')
      closed.push((data as { questionId: string }).questionId);
  expect(closed.toSorted()).toEqual(all.map(({ id }) => id).toSorted());
  await eventually(async () => (await fleet.life.questions.unaudited()).length === 0, 'the audit log');
  const { items } = await client.audit({ limit: 1_000 });
  const audited = items.flatMap(({ questionId }) => (questionId === undefined ? [] : [questionId]));
  expect(audited.toSorted()).toEqual(
    all
      .filter(({ state }) => state === 'answered')
      .map(({ id }) => id)
      .toSorted(),
  );
});

/** Two people answer each question at once, differently: one answer counts. */
async function race(client: BelayClient, questions: readonly QuestionRecord[]): Promise<void> {
  for (const { id, hash } of questions) {
    const answers = await Promise.allSettled(
      ['yes', 'no'].map(async (choice) => client.answer(id, { choice, hash })),
    );
    expect(answers.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  }
}

const recorded = (): string[] => (existsSync(book()) ? readFileSync(book(), 'utf8').trim().split('\n') : []);

function count(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
