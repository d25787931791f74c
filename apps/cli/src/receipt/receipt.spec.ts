import type { Receipt, StopReport, TargetReceipt } from '#libs/contracts';
import { createStyle } from '../session/style';
import { renderReceipt } from './render-receipt';

const U = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const PLAIN = createStyle(false);

const report = (more: Partial<StopReport> = {}): StopReport => ({
  containment: 'cgroup',
  proved: true,
  processes: [
    { pid: 812, startTime: '1', command: 'sh' },
    { pid: 813, startTime: '2' },
  ],
  signals: [
    { signal: 'SIGTERM', to: 'process', pid: 812, afterMs: 0.4 },
    { signal: 'SIGCONT', to: 'process', pid: 812, afterMs: 0.6 },
    { signal: 'SIGTERM', to: 'process', pid: 813, afterMs: 2 },
    { signal: 'SIGCONT', to: 'process', pid: 813, afterMs: 2 },
    { signal: 'SIGKILL', to: 'cgroup', afterMs: 2001 },
  ],
  evidence: [{ kind: 'descent-empty', afterMs: 2004 }],
  survivors: [],
  escalated: true,
  provedAfterMs: 2004,
  ...more,
});
const target = (n: number, more: Partial<TargetReceipt> = {}): TargetReceipt => ({
  agentId: `agt_${U}-${n}-1`,
  executionId: `exe_${U}`,
  nodeId: `node-${n}`,
  workerId: `wrk_${U}`,
  outcome: 'killed',
  report: report(),
  ...more,
});
const receipt = (targets: TargetReceipt[], more: Partial<Receipt> = {}): Receipt => {
  const number = (outcome: TargetReceipt['outcome']): number =>
    targets.filter((one) => one.outcome === outcome).length;
  const missing = targets.filter(({ outcome }) => outcome !== 'killed' && outcome !== 'already-ended');
  return {
    orderId: `ord_${U}`,
    order: {
      id: `ord_${U}`,
      seq: '1-0',
      kind: 'kill',
      scope: { type: 'execution', executionId: `exe_${U}` },
      mode: 'graceful',
      graceMs: 2_000,
      reason: 'user_abort',
      by: 'admin',
      note: 'wrong\ninput',
      placedAt: Date.UTC(2026, 10, 21, 2, 30, 1),
    },
    state: missing.length === 0 ? 'complete' : 'incomplete',
    complete: missing.length === 0,
    totals: {
      total: targets.length,
      frozen: 0,
      thawed: 0,
      killed: number('killed'),
      alreadyEnded: number('already-ended'),
      failed: number('failed'),
      unconfirmed: number('unconfirmed'),
      pending: number('pending'),
    },
    targets,
    missing: missing.map(({ agentId, workerId }) => ({ agentId, workerId })),
    ...more,
  };
};

describe('a receipt', () => {
  it('R51 says in its last line and at each target on which grade the proofs rest', () => {
    const byMarks = report({ evidence: [{ kind: 'sweep-empty', afterMs: 2004 }] });
    const lines = renderReceipt(
      receipt([target(0), target(1, { report: byMarks })], { grade: 'marks' }),
      PLAIN,
    );
    expect(lines).toContain('              sweep-empty +2004 ms; proved dead after 2004 ms, by marks');
    expect(lines).toContain('              descent-empty +2004 ms; proved dead after 2004 ms');
    expect(lines.at(-1)).toBe(
      'complete: every target is confirmed, proved by marks only, which an agent can strip',
    );
    expect(renderReceipt(receipt([target(0)], { grade: 'kernel' }), PLAIN).at(-1)).toBe(
      'complete: every target is confirmed, proved by the kernel',
    );
  });

  it('shows the acts and the evidence of each target, and that it is complete', () => {
    const lines = renderReceipt(
      receipt([target(0), target(1, { outcome: 'already-ended', report: undefined as never })]),
      PLAIN,
    );
    expect(lines).toEqual([
      `order ord_${U}  kill execution exe_${U}, graceful, grace 2.0 s`,
      'asked by admin at 2026-11-21 02:30:01Z, reason user_abort: wrong input',
      `killed        node-0  agt_${U}-0-1 on wrk_${U}`,
      '              pids 812 (sh), 813',
      '              SIGTERM to 2 processes +0..2 ms, SIGCONT to 2 processes +1..2 ms, SIGKILL to cgroup +2001 ms',
      '              descent-empty +2004 ms; proved dead after 2004 ms',
      `already-ended node-1  agt_${U}-1-1 on wrk_${U}`,
      '              had ended by itself before the order reached it',
      '2 targets: 1 killed, 1 already ended',
      'complete: every target is confirmed',
    ]);
  });

  it('counts from the placing of the order, and says when the worker began late', () => {
    const late = target(0, { latency: { signalledMs: 28_800.4, provedMs: 30_804 } });
    expect(renderReceipt(receipt([late]), PLAIN).slice(3, 7)).toEqual([
      '              its worker began 28.8 s after the order was placed',
      '              pids 812 (sh), 813',
      '              SIGTERM to 2 processes +28800..28802 ms, SIGCONT to 2 processes +28801..28802 ms, SIGKILL to cgroup +30801 ms',
      '              descent-empty +30804 ms; proved dead after 30804 ms',
    ]);
    const soon = target(0, { latency: { provedMs: 2044 } });
    expect(renderReceipt(receipt([soon]), PLAIN)[5]).toBe(
      '              descent-empty +2044 ms; proved dead after 2044 ms',
    );
  });

  it('R17 shows no time that nobody measured, and names the prover in place of the worker', () => {
    const detail = 'ended by the reaper of worker wrk_B on host h, after its worker died; times not measured';
    const reaped = report({
      processes: [],
      signals: [{ signal: 'SIGKILL', to: 'cgroup' }],
      evidence: [{ kind: 'descent-empty', detail }],
    });
    const { provedAfterMs: _, ...timeless } = reaped;
    expect(renderReceipt(receipt([target(0, { report: timeless })]), PLAIN).slice(3, 6)).toEqual([
      '              SIGKILL to cgroup',
      '              descent-empty; proved dead',
      `              ${detail}`,
    ]);
  });

  it('names the missing targets and their workers, and never calls itself done', () => {
    const lost = report({
      proved: false,
      signals: [],
      evidence: [{ kind: 'lease-expired', afterMs: 15_000 }],
      survivors: [{ pid: 9, startTime: '3', command: 'sleep' }],
    });
    const lines = renderReceipt(
      receipt([
        target(0, { outcome: 'unconfirmed', detail: 'worker lost', report: lost }),
        target(1, { outcome: 'pending', report: undefined as never }),
      ]),
      PLAIN,
    );
    expect(lines.slice(2)).toEqual([
      `unconfirmed   node-0  agt_${U}-0-1 on wrk_${U}`,
      '              pids 812 (sh), 813',
      '              lease-expired +15000 ms; not proved dead',
      '              still alive: pids 9 (sleep)',
      '              worker lost',
      `pending       node-1  agt_${U}-1-1 on wrk_${U}`,
      '              its worker has not reported yet',
      '2 targets: 1 unconfirmed, 1 pending',
      `incomplete: 2 targets not confirmed: 2 on wrk_${U}`,
      `Belay keeps trying. Look again with: belay receipt ord_${U}`,
      `If it can never be confirmed: belay close ord_${U} --note "why"`,
    ]);
  });

  it('is short above twenty targets: the median, the slowest, and whatever is not confirmed', () => {
    const targets = Array.from({ length: 30 }, (_, n) =>
      target(n, { report: report({ provedAfterMs: n, signals: [] }) }),
    );
    targets.push(target(30, { outcome: 'unconfirmed', report: undefined as never }));
    const lines = renderReceipt(receipt(targets), PLAIN);
    expect(lines.slice(2)).toEqual([
      '31 agents on 1 worker; 30 needed SIGKILL',
      'proved dead after 14 ms at the median, 29 ms at most',
      'the slowest:',
      ...[29, 28, 27].flatMap((n) => [
        `killed        node-${n}  agt_${U}-${n}-1 on wrk_${U}`,
        '              pids 812 (sh), 813',
        `              descent-empty +2004 ms; proved dead after ${n} ms`,
      ]),
      'not confirmed:',
      `unconfirmed   node-30  agt_${U}-30-1 on wrk_${U}`,
      '              no evidence yet',
      '31 targets: 30 killed, 1 unconfirmed',
      `incomplete: 1 target not confirmed: 1 on wrk_${U}`,
      `Belay keeps trying. Look again with: belay receipt ord_${U}`,
      `If it can never be confirmed: belay close ord_${U} --note "why"`,
    ]);
    expect(renderReceipt(receipt(targets), PLAIN, { full: true }).length).toBeGreaterThan(90);
  });

  it('says so when nothing was in scope', () => {
    const lines = renderReceipt(receipt([], {}), PLAIN);
    expect(lines.slice(2)).toEqual(['0 targets', 'complete: nothing was running in scope']);
  });

  it('names the latch that came with it and its release; a closed one names the person and the reason', () => {
    const latch = {
      id: `lat_${U}`,
      kind: 'latch',
      scope: { type: 'pool', pool: 'gpu' },
      by: 'api',
      engagedAt: 0,
    } as const;
    expect(renderReceipt(receipt([], { latch }), PLAIN).slice(4)).toEqual([
      `latch lat_${U} covers pool gpu: nothing starts until it is released`,
      `release it with: belay release lat_${U} --note "why"`,
    ]);
    const released = { ...latch, releasedAt: 1_000, releasedBy: 'api', releaseNote: 'mended\u001b[2J' };
    expect(renderReceipt(receipt([], { latch: released }), PLAIN).slice(4)).toEqual([
      `latch lat_${U} over pool gpu was released by api at 1970-01-01 00:00:01Z: mended[2J`,
    ]);
    const closed = { at: 2_000, by: 'api', note: 'the host burnt down' };
    const lost = target(0, { outcome: 'unconfirmed', report: undefined as never });
    expect(renderReceipt(receipt([lost], { closed }), PLAIN).slice(5)).toEqual([
      `incomplete: 1 target not confirmed: 1 on wrk_${U}`,
      'closed by api at 1970-01-01 00:00:02Z: the host burnt down',
      'Belay stopped trying.',
    ]);
    expect(renderReceipt(receipt([target(0)], { closed }), PLAIN).slice(-2)).toEqual([
      'complete: every target is confirmed',
      'closed by api at 1970-01-01 00:00:02Z: the host burnt down',
    ]);
    const open = renderReceipt(receipt([lost], { state: 'open' }), PLAIN);
    expect(open.at(-1)).toBe(`Belay keeps trying. Look again with: belay receipt ord_${U}`);
  });

  it('says of a thaw which targets another freeze keeps frozen', () => {
    const done = receipt([target(0, { outcome: 'frozen', report: undefined as never })], { complete: true });
    const thaw = {
      ...done,
      order: { ...done.order, kind: 'thaw' as const },
      totals: { ...done.totals, frozen: 1 },
    };
    expect(renderReceipt(thaw, PLAIN).slice(4)).toEqual([
      '1 target: 1 frozen',
      'complete: every target is confirmed',
      '1 agent stays frozen by another freeze. Look with: belay latches, belay ps --state paused',
    ]);
  });

  it('tells the rounds of a signal apart', () => {
    const rounds = report({
      signals: [0, 5, 2_000].map((afterMs) => ({ signal: 'SIGKILL', to: 'group' as const, afterMs })),
    });
    expect(renderReceipt(receipt([target(0, { report: rounds })]), PLAIN)[4]).toBe(
      '              SIGKILL to group +0..5 ms, SIGKILL to group +2000 ms',
    );
  });
});
