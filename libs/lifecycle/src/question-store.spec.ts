import { validateAsk, type QuestionRecord } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import {
  createExecution,
  node,
  spec,
  startAll,
  startNext,
  useLife,
  type StartedAgent,
} from '../../../test/support/life';
import { until } from '../../../test/support/wait';
import type { LifecycleService } from './index';

let life: LifecycleService;
let valkey: Valkey;
useLife((rig) => ({ life, valkey } = rig));
beforeEach(async () => valkey.redis.flushall());

const ASK = validateAsk({ question: 'Deploy?', detail: { build: 5, files: [] } });
const SOON = { ...ASK, timeoutMs: 100 };
let requests = 0;
const yes = (hash: string, more = {}) => ({
  choice: 'yes',
  hash,
  by: 'ann',
  answerId: `r${++requests}`,
  ...more,
});

async function agent(nodes = [node('a', { maxAttempts: 3 })]): Promise<StartedAgent> {
  return startNext(life, await createExecution(life, spec(nodes)));
}

/** Waits until the deadline has passed by the server's clock. Nobody looks at the question meanwhile. */
async function untilPassed({ deadlineAt }: QuestionRecord): Promise<void> {
  const key = valkey.keys.shard(valkey.keys.control, 'settings');
  await until(async () => (await valkey.timeAt(key)) >= deadlineAt, 'the deadline');
}

async function told(id: string): Promise<unknown[]> {
  const events = await life.executions.events(id, '0-0');
  return events
    .filter(({ type }) => type.startsWith('ask.'))
    .map(({ type, entity, from, to, data }) => ({ type, entity, from, to, data }));
}

describe('a question of an agent', () => {
  it('is stored with its attempt, its epoch and the hash of its words, and told', async () => {
    const { id, agentId, fence } = await agent();
    const question = await life.questions.ask(fence, 1, ASK);
    expect(question).toEqual({
      id: `ask_${agentId.slice(4)}-1`,
      executionId: id,
      nodeId: 'a',
      agentId,
      attempt: 1,
      epoch: fence.epoch,
      state: 'open',
      question: 'Deploy?',
      choices: ['yes', 'no'],
      detail: { build: 5, files: [] },
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      createdAt: expect.any(Number),
      deadlineAt: question.createdAt + 3_600_000,
    });
    expect(await life.questions.get(question.id)).toEqual(question);
    expect(await told(id)).toEqual([
      {
        type: 'ask.created',
        entity: 'question',
        to: 'open',
        data: {
          questionId: question.id,
          question: 'Deploy?',
          choices: ['yes', 'no'],
          hash: question.hash,
          deadlineAt: question.deadlineAt,
        },
      },
    ]);
  });

  it('needs no detail, and says how its asker waits', async () => {
    const { fence } = await agent();
    const plain = await life.questions.ask(fence, 1, {
      ...validateAsk({ question: 'Go on?' }),
      whileWaiting: 'run',
    });
    expect(plain).not.toHaveProperty('detail');
    expect(plain).not.toHaveProperty('whileWaiting');
    const still = await life.questions.ask(fence, 2, { ...ASK, whileWaiting: 'freeze' });
    expect(still).toMatchObject({ whileWaiting: 'freeze' });
  });

  it('that is asked again because its reply was lost is the same one', async () => {
    const { id, fence } = await agent();
    const first = await life.questions.ask(fence, 1, ASK);
    expect(await life.questions.ask(fence, 1, ASK)).toEqual(first);
    expect(await told(id)).toHaveLength(1);
    expect((await life.questions.ask(fence, 2, ASK)).id).not.toBe(first.id);
  });

  it('is answered once: two answers race, and one wins', async () => {
    const { id, fence } = await agent();
    const { id: asked, hash } = await life.questions.ask(fence, 1, ASK);
    const answers = await Promise.allSettled([
      life.questions.answer(asked, yes(hash, { reason: 'fine' })),
      life.questions.answer(asked, yes(hash, { choice: 'no', by: 'ben' })),
    ]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    const [lost] = answers.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    expect(lost?.reason).toMatchObject({
      code: 'QUESTION_CLOSED',
      message: `The question ${asked} is answered (somebody answered it before).`,
    });
    const stored = await life.questions.get(asked);
    expect(stored).toMatchObject({ state: 'answered', why: 'person', endedAt: expect.any(Number) });
    expect(await told(id)).toHaveLength(2);
    expect(await life.questions.unaudited()).toEqual([asked]);
    await life.questions.audited(asked);
    expect(await life.questions.unaudited()).toEqual([]);
  });

  it('whose answer is sent twice by one request is answered once', async () => {
    const { id, fence } = await agent();
    const { id: asked, hash } = await life.questions.ask(fence, 1, ASK);
    const request = yes(hash);
    const first = await life.questions.answer(asked, request);
    expect(first).toMatchObject({ state: 'answered', answer: 'yes', by: 'ann' });
    expect(await life.questions.answer(asked, request)).toEqual(first);
    expect(await told(id)).toHaveLength(2);
  });

  it('is answered for the words that were seen, by one of its choices', async () => {
    const { fence } = await agent();
    const { id, hash } = await life.questions.ask(fence, 1, ASK);
    await expect(life.questions.answer(id, yes('0'.repeat(64)))).rejects.toMatchObject({
      code: 'QUESTION_CHANGED',
      message: `The question ${id} has another hash than your answer. Read it again, then answer.`,
      details: { hash },
    });
    await expect(life.questions.answer(id, yes(hash, { choice: 'maybe' }))).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      problems: [{ path: 'choice', code: 'ONE_OF', message: 'must be one of yes, no, denied.' }],
    });
    expect(await life.questions.get(id)).toMatchObject({ state: 'open' });
    expect(await life.questions.answer(id, yes(hash, { choice: 'denied' }))).toMatchObject({
      state: 'denied',
      answer: 'denied',
      why: 'person',
    });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['an id of another form', async () => life.questions.get('ask_7')],
    ['an id that nobody asked', async () => life.questions.get('ask_01HZXW3V9K8Q2M4N6P7R5S0T1A-0-1-1')],
    [
      'an answer to such an id',
      async () => life.questions.answer('ask_01HZXW3V9K8Q2M4N6P7R5S0T1A-0-1-1', yes('0'.repeat(64))),
    ],
  ])('is not found: %s', async (_title, act) => {
    await expect(act()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a deadline', () => {
  it('that has passed is a denial for a late answer, though no process enforced it', async () => {
    const { fence } = await agent();
    const asked = await life.questions.ask(fence, 1, SOON);
    await untilPassed(asked);
    await expect(life.questions.answer(asked.id, yes(asked.hash))).rejects.toMatchObject({
      code: 'QUESTION_CLOSED',
      details: { state: 'denied', why: 'deadline' },
    });
    expect(await life.questions.unaudited()).toEqual([]);
  });

  it('that has passed is a denial for a reader, at the time of the deadline', async () => {
    const { id, fence } = await agent();
    const asked = await life.questions.ask(fence, 1, SOON);
    await untilPassed(asked);
    const denied = {
      state: 'denied',
      answer: 'denied',
      why: 'deadline',
      by: 'belay',
      endedAt: asked.deadlineAt,
    };
    expect(await life.questions.get(asked.id)).toMatchObject(denied);
    expect(await life.questions.get(asked.id)).toMatchObject(denied);
    expect(await told(id)).toMatchObject([
      { type: 'ask.created' },
      { type: 'ask.denied', from: 'open', to: 'denied' },
    ]);
  });

  it('that has passed is stored by the sweep', async () => {
    const { id, fence } = await agent();
    const asked = await life.questions.ask(fence, 1, SOON);
    const later = await life.questions.ask(fence, 2, ASK);
    await untilPassed(asked);
    for (const tag of valkey.keys.tags()) await life.questions.settleOverdue(tag);
    expect((await told(id)).at(-1)).toMatchObject({ type: 'ask.denied' });
    expect((await life.questions.open()).items.map((one) => one.id)).toEqual([later.id]);
  });

  it('that passed before the agent ended was a denial all the same', async () => {
    const { fence } = await agent();
    const asked = await life.questions.ask(fence, 1, SOON);
    await untilPassed(asked);
    await life.agents.finish(fence, { state: 'killed', reason: 'killswitch' });
    expect(await life.questions.get(asked.id)).toMatchObject({ state: 'denied', why: 'deadline' });
  });
});

describe('the end of an attempt', () => {
  it('cancels its open questions: a kill, in the act that stores it', async () => {
    const { id, fence } = await agent();
    const { questions } = life;
    const [answered, open] = [await questions.ask(fence, 1, ASK), await questions.ask(fence, 2, ASK)];
    await questions.answer(answered.id, yes(answered.hash));
    await life.agents.finish(fence, { state: 'killed', reason: 'killswitch' });
    const types = (await life.executions.events(id, '0-0')).map(({ type }) => type);
    // Nobody has read the question yet: a reader would cancel it too.
    expect(types.slice(-6).filter((type) => /ask.cancelled|agent.killed/.test(type))).toEqual([
      'ask.cancelled',
      'agent.killed',
    ]);
    expect(await questions.get(open.id)).toMatchObject({
      state: 'cancelled',
      why: 'ended',
      answer: 'denied',
    });
    expect(await questions.get(answered.id)).toMatchObject({ state: 'answered', answer: 'yes' });
    await expect(questions.answer(open.id, yes(open.hash))).rejects.toMatchObject({
      code: 'QUESTION_CLOSED',
    });
    expect((await questions.open()).items).toEqual([]);
  });

  it('cancels each of them, in whatever order their numbers came', async () => {
    const { id, fence } = await agent();
    await life.questions.ask(fence, 2, ASK);
    await life.questions.ask(fence, 1, { ...ASK, timeoutMs: ASK.timeoutMs + 1 });
    await life.agents.finish(fence, { state: 'failed', reason: 'error' });
    const due = valkey.keys.shard(valkey.keys.tagOf(id), 'asks:due');
    expect(await valkey.redis.zcard(due)).toBe(0);
  });

  it('is the end for the next attempt too: that one asks for itself', async () => {
    const { fence } = await agent();
    const first = await life.questions.ask(fence, 1, ASK);
    const { entries } = await life.agents.finish(fence, {
      state: 'failed',
      reason: 'worker_lost',
      retryInMs: 0,
    });
    const claim = await life.agents.claim(entries[0] as never, 'wrk_01HYYYYYYYYYYYYYYYYYYYYYYY', 'token');
    if (!claim.claimed) throw new Error(claim.why);
    await expect(life.questions.answer(first.id, yes(first.hash))).rejects.toMatchObject({
      code: 'QUESTION_CLOSED',
    });
    const second = await life.questions.ask(claim.fence, 1, ASK);
    expect(second).toMatchObject({ attempt: 2, state: 'open', hash: first.hash });
    expect(second.epoch).toBeGreaterThan(first.epoch);
    await expect(life.questions.ask(fence, 2, ASK)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
  });

  it('begins with the stop of its execution: from there on there is neither an answer nor a question', async () => {
    const { id, fence } = await agent();
    const { id: asked, hash } = await life.questions.ask(fence, 1, ASK);
    await life.executions.stop(id, { reason: 'user_abort', actor: 'ann' });
    await expect(life.questions.answer(asked, yes(hash))).rejects.toMatchObject({ code: 'QUESTION_CLOSED' });
    await expect(life.questions.ask(fence, 2, ASK)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
  });

  it('refuses later questions of it, and questions of a stranger in its name', async () => {
    const { fence } = await agent();
    const { questions } = life;
    await expect(questions.ask({ ...fence, epoch: 99 }, 1, ASK)).rejects.toMatchObject({
      code: 'STALE_EPOCH',
    });
    await expect(questions.ask({ ...fence, agentId: `${fence.agentId}9` }, 1, ASK)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await life.agents.finish(fence, { state: 'completed' });
    await expect(questions.ask(fence, 1, ASK)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
  });
});

describe('a key', () => {
  it('makes the same words one question, also once it is answered', async () => {
    const { id, fence } = await agent();
    const ask = { ...ASK, key: 'deploy' };
    const first = await life.questions.ask(fence, 1, ask);
    expect((await life.questions.ask(fence, 2, ask)).id).toBe(first.id);
    await life.questions.answer(first.id, yes(first.hash));
    expect(await life.questions.ask(fence, 3, ask)).toMatchObject({ id: first.id, answer: 'yes' });
    expect(await told(id)).toHaveLength(2);
  });

  it('of changed detail refuses the old answer, and leads to the new question', async () => {
    const { fence } = await agent();
    const ask = { ...ASK, key: 'deploy' };
    const first = await life.questions.ask(fence, 1, ask);
    await life.questions.ask(fence, 2, { ...ask, key: 'another' });
    const second = await life.questions.ask(fence, 3, { ...ask, detail: { build: 6 } });
    expect(second.id).not.toBe(first.id);
    expect(await life.questions.get(first.id)).toMatchObject({
      state: 'cancelled',
      why: 'changed',
      next: second.id,
    });
    await expect(life.questions.answer(first.id, yes(first.hash))).rejects.toMatchObject({
      code: 'QUESTION_CHANGED',
      message: `The question ${first.id} was asked again in other words, as ${second.id}. Read that one, then answer.`,
    });
    await expect(life.questions.answer(second.id, yes(first.hash))).rejects.toMatchObject({
      code: 'QUESTION_CHANGED',
    });
    await life.questions.answer(second.id, yes(second.hash));
    const third = await life.questions.ask(fence, 4, { ...ask, detail: { build: 7 } });
    expect(third).toMatchObject({ state: 'open' });
    expect(await life.questions.get(second.id)).toMatchObject({ state: 'answered' });
  });
});

describe('questions are bounded and listed', () => {
  it('refuses the hundred and first of an attempt, and the ten thousand and first of an execution', async () => {
    const id = await createExecution(life, spec([node('a'), node('b')]));
    const [{ fence }, { fence: next }] = (await startAll(life, id)) as [StartedAgent, StartedAgent];
    for (let n = 1; n <= 100; n++) await life.questions.ask(fence, n, ASK);
    await expect(life.questions.ask(fence, 101, ASK)).rejects.toMatchObject({
      code: 'TOO_MANY_QUESTIONS',
      message: `One attempt asks at most 100 questions; ${fence.agentId} has asked that many.`,
    });
    // A request whose reply was lost is answered all the same.
    expect((await life.questions.ask(fence, 100, ASK)).id).toMatch(/-100$/);
    await valkey.redis.hset(valkey.keys.execution(id), 'asks', 10_000);
    await expect(life.questions.ask(next, 1, ASK)).rejects.toMatchObject({
      code: 'TOO_MANY_QUESTIONS',
      message: `One execution asks at most 10000 questions; ${next.agentId} has asked that many.`,
    });
  });

  it('counts no request whose answer is a question from before', async () => {
    const { fence } = await agent();
    const ask = { ...ASK, key: 'deploy' };
    const first = await life.questions.ask(fence, 1, ask);
    for (let n = 2; n <= 101; n++) expect((await life.questions.ask(fence, n, ask)).id).toBe(first.id);
    const second = await life.questions.ask(fence, 102, ASK);
    expect(second.id).toBe(`ask_${fence.agentId.slice(4)}-2`);
    // The same for a request that was not stored at all, such as one that the server refused.
    expect((await life.questions.ask(fence, 500, ASK)).id).toMatch(/-3$/);
    expect((await life.questions.ask(fence, 102, ASK)).id).toBe(second.id);
  });

  it('lists the open ones of the fleet by their deadlines, page by page', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 6; i++) {
      const { fence } = await agent();
      ids.unshift((await life.questions.ask(fence, 1, { ...ASK, timeoutMs: 1_000_000 - i * 10_000 })).id);
    }
    const listed: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await life.questions.open({ limit: 4, ...(cursor === undefined ? {} : { cursor }) });
      listed.push(...page.items.map((one) => one.id));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    expect(listed).toEqual(ids);
    expect((await life.questions.open({ cursor: `${'9'.repeat(15)}:${ids[0]}` })).items).toEqual([]);
    for (const wrong of ['7', `${'9'.repeat(15)}:x`])
      await expect(life.questions.open({ cursor: wrong })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('lists all of an execution, oldest first, and keeps them as long as it', async () => {
    const { id, fence } = await agent();
    const first = await life.questions.ask(fence, 1, ASK);
    const second = await life.questions.ask(fence, 2, ASK);
    await life.questions.answer(first.id, yes(first.hash));
    expect((await life.questions.ofExecution(id)).map((one) => [one.id, one.state])).toEqual([
      [first.id, 'answered'],
      [second.id, 'open'],
    ]);
    await life.agents.finish(fence, { state: 'completed' });
    expect(await valkey.redis.pttl(valkey.keys.execution(id, 'asks'))).toBeGreaterThan(0);
    await valkey.redis.del(valkey.keys.execution(id, 'asks'));
    expect(await life.questions.ofExecution(id)).toEqual([]);
  });

  it('R31 one that cannot be read is named, hides no other, and keeps no agent from ending', async () => {
    const { id, fence } = await agent();
    const broken = await life.questions.ask(fence, 1, ASK);
    const strange = await life.questions.ask(fence, 2, SOON);
    const sound = await life.questions.ask(fence, 3, SOON);
    const key = valkey.keys.execution(id, 'asks');
    await valkey.redis.hset(key, broken.id, '{', `w:${strange.id}`, '{');
    await expect(life.questions.get(broken.id)).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
    await expect(life.questions.get(strange.id)).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
    await untilPassed(sound);
    for (const tag of valkey.keys.tags()) await life.questions.settleOverdue(tag);
    expect((await life.questions.ofExecution(id)).map((one) => [one.id, one.state])).toEqual([
      [sound.id, 'denied'],
    ]);
    await life.agents.finish(fence, { state: 'completed' });
    expect(await life.executions.get(id)).toMatchObject({ state: 'completed' });
    await until(
      async () => (await valkey.quarantine.list()).some(({ field }) => field === broken.id),
      'the quarantine of the question',
    );
  });

  it('forgets the deadline of one that is gone', async () => {
    const { id, fence } = await agent();
    const { id: asked } = await life.questions.ask(fence, 1, ASK);
    await valkey.redis.del(valkey.keys.execution(id, 'asks'));
    expect((await life.questions.open()).items).toEqual([]);
    const due = valkey.keys.shard(valkey.keys.tagOf(id), 'asks:due');
    expect(await valkey.redis.zscore(due, asked)).toBeNull();
  });
});
