import type { AgentRecord, BelayEvent, ExecutionRecord, NodeCounts } from '#libs/contracts';
import { createStyle } from '../session/style';
import { displayWidth } from '../text/width';
import { ExecutionProgress } from './execution-progress';
import { LiveBlock } from './live-block';
import { renderBlock, renderEnd, renderLine } from './render-progress';

const PLAIN = createStyle(false);
const NONE: NodeCounts = {
  total: 0,
  pending: 0,
  ready: 0,
  running: 0,
  suspended: 0,
  completed: 0,
  failed: 0,
  skipped: 0,
  cancelled: 0,
};
const record = (more: Partial<ExecutionRecord> = {}, nodes: Partial<NodeCounts> = {}): ExecutionRecord => ({
  id: 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV',
  name: 'nightly',
  state: 'running',
  version: 1,
  epoch: 1,
  labels: {},
  onFailure: 'stop',
  createdAt: 1_000,
  startedAt: 1_000,
  costUsd: 0,
  nodes: { ...NONE, ...nodes },
  live: 0,
  ...more,
});
const node = (nodeId: string, to: string, at: number, more: Partial<BelayEvent> = {}): BelayEvent => ({
  id: `${at}-0`,
  seq: at,
  type: `node.${to}`,
  entity: 'node',
  nodeId,
  to,
  at,
  ...more,
});

describe('progress', () => {
  it('follows nodes by events, and twice is once', () => {
    const progress = new ExecutionProgress(record());
    for (let round = 0; round < 2; round++) {
      progress.apply(node('a', 'running', 2_000), 2_000);
      progress.apply(node('b', 'running', 2_000, { attempt: 2 }), 2_000);
      progress.apply(node('a', 'completed', 3_000), 3_000);
    }
    expect([...progress.running.keys()]).toEqual(['b']);
    expect(progress.ended.at(-1)).toEqual({ nodeId: 'a', state: 'completed' });
    expect(progress.apply(node('b', 'ready', 3_500), 3_500)).toBeUndefined();
    expect(progress.running.size).toBe(0);
  });

  it('starts from the agents that run already', () => {
    const progress = new ExecutionProgress(record());
    progress.seed([
      { nodeId: 'a', attempt: 1, state: 'running', createdAt: 5, startedAt: 7 },
      { nodeId: 'b', attempt: 1, state: 'failed', createdAt: 5 },
    ] as AgentRecord[]);
    expect([...progress.running.values()]).toEqual([{ nodeId: 'a', attempt: 1, since: 7 }]);
  });

  it('reckons with a server whose clock is ahead', () => {
    const progress = new ExecutionProgress(record());
    progress.apply(node('a', 'running', 61_000), 1_000);
    expect(progress.toServerTime(3_500)).toBe(63_500);
  });

  it('draws counts, running nodes and the last that ended', () => {
    const progress = new ExecutionProgress(
      record({ costUsd: 0.42 }, { total: 40, completed: 10, failed: 1, running: 5, pending: 24 }),
    );
    progress.apply(node('old', 'completed', 4_000), 4_000);
    progress.apply(
      node('parse', 'failed', 4_000, { error: { code: 'EXIT', message: 'Exited with code 3.' } }),
      4_000,
    );
    progress.apply(node('fetch', 'running', 4_000, { attempt: 2 }), 4_000);
    expect(renderBlock(progress, PLAIN, { columns: 80, rows: 24 }, 6_000)).toEqual([
      'nightly  running  5.0 s  $0.42',
      `[${'#'.repeat(11)}${'='.repeat(5)}${'.'.repeat(24)}] 11/40 done, 5 running, 1 failed`,
      `  fetch${' '.repeat(19)}  2.0 s  attempt 2`,
      '  completed old',
      '  failed    parse: Exited with code 3.',
    ]);
  });

  it.each([
    [20, 3],
    [30, 5],
    [60, 8],
    [200, 50],
  ])('stays within a terminal of %i columns and %i rows', (columns, rows) => {
    const progress = new ExecutionProgress(record({ name: 'n'.repeat(250) }, { total: 100, running: 60 }));
    for (let n = 0; n < 60; n++) progress.apply(node(`${'wide-'.repeat(12)}${n}`, 'running', 2_000), 2_000);
    for (let n = 0; n < 9; n++) progress.apply(node(`done-${'x'.repeat(50)}${n}`, 'completed', 2_000), 2_000);
    const lines = renderBlock(progress, PLAIN, { columns, rows }, 9_000);
    expect(lines.length).toBeLessThan(rows);
    for (const line of lines) expect(displayWidth(line)).toBeLessThan(columns);
  });

  it('counts the nodes it has no row for', () => {
    const progress = new ExecutionProgress(record({}, { total: 9, running: 9 }));
    for (let n = 0; n < 9; n++) progress.apply(node(`n${n}`, 'running', 2_000 + n), 2_000);
    expect(renderBlock(progress, PLAIN, { columns: 40, rows: 7 }, 2_000).at(-1)).toBe('  … and 6 more');
  });

  it('says it in one line where there is no terminal', () => {
    expect(renderLine(record({}, { total: 4, completed: 1, failed: 1, running: 2 }), 3_500)).toBe(
      'running: 2/4 nodes done, 2 running, 1 failed, 2.5 s',
    );
  });

  it('ends with state, time, counts and cost, and where to look', () => {
    expect(
      renderEnd(
        record({ state: 'completed', completedAt: 13_300, costUsd: 0.5 }, { total: 3, completed: 3 }),
        PLAIN,
      ),
    ).toEqual(['completed  nightly in 12.3 s, 3 nodes: 3 completed, cost $0.50']);
    const failed = record(
      {
        state: 'failed',
        stoppedAt: 3_000,
        reason: 'error',
        error: { code: 'EXIT', message: 'Exited with code 3.', nodeId: 'b' },
      },
      { total: 2, completed: 1, failed: 1 },
    );
    expect(renderEnd(failed, PLAIN)).toEqual([
      'failed (error)  nightly in 2.0 s, 2 nodes: 1 completed, 1 failed, cost $0',
      'error EXIT in node b: Exited with code 3.',
      'Look with: belay get exe_01ARZ3NDEKTSV4RRFFQ69G5FAV',
    ]);
  });

  it('is drawn over itself and taken away', () => {
    let text = '';
    const block = new LiveBlock({ isTTY: true, columns: 80, rows: 24, write: (piece) => (text += piece) });
    block.draw(['a', 'b']);
    block.draw(['c']);
    block.clear();
    block.clear();
    expect(text).toBe('a\nb\n\r\u001b[2A\u001b[0Jc\n\r\u001b[1A\u001b[0J');
  });
});
