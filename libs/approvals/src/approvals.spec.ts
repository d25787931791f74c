import { validateAsk, type QuestionRecord } from '#libs/contracts';
import { AuditStore } from '#libs/killswitch';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { useKillswitch, type KillswitchRig } from '../../../test/support/killswitch';
import { createExecution, node, spec, startNext } from '../../../test/support/life';
import { Approvals } from './approvals';

let valkey: Valkey;
let life: LifecycleService;
let settings: KillswitchRig['settings'];
let audit: AuditStore;
let approvals: Approvals;
useKillswitch((rig) => ({ valkey, life, settings } = rig));
beforeEach(async () => {
  await valkey.redis.flushall();
  audit = new AuditStore(valkey, settings);
  approvals = new Approvals(life, audit);
});

const ASK = validateAsk({ question: 'Deploy?', detail: { build: 5 } });
async function ask(): Promise<QuestionRecord> {
  const { fence } = await startNext(life, await createExecution(life, spec([node('a')])));
  return life.questions.ask(fence, 1, ASK);
}

describe('an answer in the audit log', () => {
  it('stands there with the text that was seen, once', async () => {
    const { id, hash, agentId } = await ask();
    const request = {
      choice: 'yes',
      hash,
      reason: 'the build is green',
      by: 'ann',
      role: 'approver',
      requestId: 'req_1',
    } as const;
    const answered = await approvals.answer(id, request);
    expect(answered).toMatchObject({
      state: 'answered',
      answer: 'yes',
      by: 'ann',
      reason: 'the build is green',
    });
    await approvals.sweep();
    const { items } = await audit.list();
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      act: 'ask.answered',
      by: 'ann',
      role: 'approver',
      requestId: 'req_1',
      note: 'the build is green',
      questionId: id,
      agentId,
      question: 'Deploy?',
      choices: ['yes', 'no'],
      detail: '{"build":5}',
      questionHash: hash,
      answer: 'yes',
      answeredAt: answered.endedAt,
    });
    expect(await audit.verify()).toMatchObject({ intact: true });
    expect(await life.questions.unaudited()).toEqual([]);
  });

  it('is entered by the sweep where its giver died in between', async () => {
    const { id, hash } = await ask();
    await life.questions.answer(id, { choice: 'denied', hash, by: 'ben', answerId: 'r' });
    expect((await audit.list()).items).toEqual([]);
    await approvals.sweep();
    await approvals.sweep();
    expect((await audit.list()).items).toMatchObject([{ act: 'ask.denied', by: 'ben', answer: 'denied' }]);
  });

  it('that cannot be written now leaves the answer stored, for the sweep', async () => {
    const { id, hash } = await ask();
    const record = jest.spyOn(audit, 'record').mockRejectedValueOnce(new Error('the server is away'));
    expect(await approvals.answer(id, { choice: 'no', hash, by: 'ann' })).toMatchObject({ answer: 'no' });
    expect(await life.questions.unaudited()).toEqual([id]);
    record.mockRestore();
    await approvals.sweep();
    expect((await audit.list()).items).toMatchObject([{ act: 'ask.answered', answer: 'no' }]);
  });

  it('is given up where the question is gone', async () => {
    const { id, hash, executionId } = await ask();
    await life.questions.answer(id, { choice: 'yes', hash, by: 'ann', answerId: 'r' });
    await valkey.redis.del(valkey.keys.execution(executionId, 'asks'));
    await approvals.sweep();
    expect(await life.questions.unaudited()).toEqual([]);
    expect((await audit.list()).items).toEqual([]);
  });

  it('is not made of a question that cannot be read, which keeps no other from the log', async () => {
    const broken = await ask();
    const whole = await ask();
    for (const { id, hash } of [broken, whole])
      await life.questions.answer(id, { choice: 'yes', hash, by: 'ann', answerId: 'r' });
    await valkey.redis.hset(valkey.keys.execution(broken.executionId, 'asks'), broken.id, '{');
    await approvals.sweep();
    expect(await life.questions.unaudited()).toEqual([broken.id]);
    expect((await audit.list()).items).toMatchObject([{ questionId: whole.id }]);
    expect(await valkey.quarantine.list()).toMatchObject([{ field: broken.id }]);
  });

  it('that meets a fault of the server fails the sweep after all others', async () => {
    const [first, second] = [await ask(), await ask()];
    for (const { id, hash } of [first, second])
      await life.questions.answer(id, { choice: 'yes', hash, by: 'ann', answerId: 'r' });
    const record = jest.spyOn(audit, 'record').mockRejectedValueOnce(new Error('the server is away'));
    await expect(approvals.sweep()).rejects.toThrow('the server is away');
    record.mockRestore();
    expect((await audit.list()).items).toHaveLength(1);
  });
});

describe('the list of questions', () => {
  it('has the open ones of the fleet, or all of an execution, page by page', async () => {
    const { executionId, agentId, epoch, id } = await ask();
    const fence = { agentId, epoch, owner: 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ' };
    const ids = [id];
    for (let n = 2; n <= 5; n++) ids.push((await life.questions.ask(fence, n, ASK)).id);
    const other = await ask();
    await approvals.answer(id, { choice: 'yes', hash: other.hash, by: 'ann' });
    expect((await approvals.list()).items.map((one) => one.id).toSorted()).toEqual(
      [...ids.slice(1), other.id].toSorted(),
    );
    const listed: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await approvals.list({
        executionId,
        limit: 2,
        ...(cursor === undefined ? {} : { cursor }),
      });
      listed.push(...page.items.map((one) => one.id));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    expect(listed).toEqual(ids);
    await expect(approvals.list({ executionId, cursor: other.id })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
    });
    await expect(approvals.list({ executionId: 'exe_01HZXW3V9K8Q2M4N6P7R5S0T1A' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    expect(await approvals.get(id)).toMatchObject({ state: 'answered' });
  });
});
