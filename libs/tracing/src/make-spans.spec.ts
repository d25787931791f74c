import type { AgentRecord, Receipt, StopReport, TargetReceipt } from '#libs/contracts';
import { MOST_LINKS, spanOfKill, spansOfAttempt } from './make-spans';
import { attemptSpanId, traceOf } from './trace-ids';

const ULID = '01HZZZZZZZZZZZZZZZZZZZZZZZ';
const EXECUTION = `exe_${ULID}`;
const AGENT = `agt_${ULID}-0-1`;
const trace = traceOf(EXECUTION);
const report: StopReport = {
  containment: 'descent',
  proved: true,
  processes: [{ pid: 7, startTime: '1', command: 'a-secret-argument' }],
  signals: [],
  evidence: [{ kind: 'exit' }, { kind: 'descent-empty' }, { kind: 'exit' }],
  survivors: [],
  escalated: true,
  signalledAfterMs: 2,
  provedAfterMs: 30,
};
const agent: AgentRecord = {
  id: AGENT,
  executionId: EXECUTION,
  nodeId: 'a',
  state: 'killed',
  version: 3,
  epoch: 5,
  attempt: 1,
  owner: `wrk_${ULID}`,
  pool: 'default',
  createdAt: 1_000,
  startedAt: 1_010,
  stoppedAt: 2_000,
  reason: 'killswitch',
  costUsd: 0,
  report,
};
const target = (n: number, more: Partial<TargetReceipt> = {}): TargetReceipt => ({
  agentId: `agt_${ULID}-${n}-1`,
  executionId: EXECUTION,
  nodeId: `n${n}`,
  workerId: `wrk_${ULID}`,
  outcome: 'killed',
  grade: 'kernel',
  ...more,
});
const receipt = (targets: TargetReceipt[], more: Partial<Receipt> = {}): Receipt =>
  ({
    order: {
      id: `ord_${ULID}`,
      mode: 'graceful',
      scope: { type: 'all' },
      reason: 'killswitch',
      placedAt: 500,
    },
    state: 'complete',
    completedAt: 2_100,
    targets,
    ...more,
  }) as unknown as Receipt;

describe('R67 the spans of an attempt', () => {
  it('have the stored times, the stop and the proof, and no command', () => {
    const [attempt, spawn] = spansOfAttempt(trace, agent);
    expect(attempt).toMatchObject({
      startMs: 1_000,
      endMs: 2_000,
      parentSpanId: trace.submitSpanId,
      error: undefined,
    });
    expect(attempt?.events).toMatchObject([
      { name: 'belay.stop.asked', atMs: 1_970, attributes: { 'belay.stop.reason': 'killswitch' } },
      { name: 'belay.stop.signalled', atMs: 1_972, attributes: { 'belay.stop.escalated': true } },
      {
        name: 'belay.proved',
        atMs: 2_000,
        attributes: { 'belay.proof.grade': 'kernel', 'belay.proof.evidence': 'exit,descent-empty' },
      },
    ]);
    expect(spawn).toMatchObject({ startMs: 1_000, endMs: 1_010, parentSpanId: attempt?.spanId });
    expect(JSON.stringify([attempt, spawn])).not.toContain('secret');
  });

  it.each([
    ['lost', { state: 'failed', reason: 'worker_lost', error: { code: 'LOST', message: 'x' } }],
    ['unconfirmed', { report: { ...report, proved: false } }],
    ['EXIT', { state: 'failed', reason: undefined, error: { code: 'EXIT', message: 'x' } }],
    ['failed', { state: 'failed', reason: undefined }],
    [undefined, { state: 'completed', reason: undefined, report: undefined }],
  ] as const)('end with the error %s', (error, more) => {
    const [attempt] = spansOfAttempt(trace, { ...agent, ...more } as AgentRecord);
    expect(attempt?.error).toBe(error);
  });

  it('are one where no process was started', () => {
    const { startedAt: _, ...unstarted } = agent;
    expect(spansOfAttempt(trace, unstarted)).toHaveLength(1);
  });
});

describe('R67 the span of a kill', () => {
  it('ends with the proof, has the lowest grade, and links the attempts of its own execution', () => {
    const foreign = target(9, { executionId: 'exe_other', grade: undefined as never });
    const span = spanOfKill(
      trace,
      EXECUTION,
      receipt([target(0), target(1, { grade: 'marks' }), foreign]),
      9_999,
    );
    expect(span).toMatchObject({
      startMs: 500,
      endMs: 2_100,
      error: undefined,
      attributes: { 'belay.order.targets': 2, 'belay.proof.grade': 'marks' },
      events: [{ name: 'belay.proved', atMs: 2_100 }],
    });
    expect(span.links?.map(({ spanId }) => spanId)).toEqual(
      [target(0), target(1)].map(({ agentId }) => attemptSpanId(agentId)),
    );
  });

  it('says unconfirmed while a proof is missing, and a later proof is a span of its own', () => {
    const open = receipt([target(0), target(1, { outcome: 'unconfirmed' })], { state: 'incomplete' });
    const { completedAt: _, ...incomplete } = open;
    const first = spanOfKill(trace, EXECUTION, incomplete, 3_000);
    expect(first).toMatchObject({ endMs: 3_000, error: 'unconfirmed', events: [] });
    const second = spanOfKill(trace, EXECUTION, receipt([target(0), target(1)]), 4_000);
    expect(second.error).toBeUndefined();
    expect(second.spanId).not.toBe(first.spanId);
    // A person closed it: that is no proof.
    expect(spanOfKill(trace, EXECUTION, { ...open, state: 'complete' }, 1)).toMatchObject({
      error: 'unconfirmed',
    });
  });

  it('has a bounded number of links', () => {
    const targets = Array.from({ length: MOST_LINKS + 1 }, (_, n) => target(n));
    expect(spanOfKill(trace, EXECUTION, receipt(targets), 1)).toMatchObject({
      links: { length: MOST_LINKS },
      attributes: { 'belay.order.targets': MOST_LINKS + 1 },
    });
  });
});
