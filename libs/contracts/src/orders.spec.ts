import { latchedError } from './latches';
import { holdOf, summaryOf } from './orders';
import { conditionsOf, isWide, scopeCovers, scopeKey, type Scope } from './scope';
import type { ExecutionRecord } from './records';

const AGENT = {
  agentId: 'agt_1',
  executionId: 'exe_1',
  workerId: 'wrk_1',
  pool: 'gpu',
  labels: { team: 'data' },
};

describe('the scope of an order', () => {
  it.each<[Scope, string, boolean]>([
    [{ type: 'all' }, 'all', true],
    [{ type: 'worker', workerId: 'wrk_1' }, 'worker/wrk_1', true],
    [{ type: 'worker', workerId: 'wrk_2' }, 'worker/wrk_2', false],
    [{ type: 'execution', executionId: 'exe_1' }, 'execution/exe_1', true],
    [{ type: 'execution', executionId: 'exe_2' }, 'execution/exe_2', false],
    [{ type: 'agent', agentId: 'agt_1' }, 'agent/agt_1', true],
    [{ type: 'agent', agentId: 'agt_2' }, 'agent/agt_2', false],
    [{ type: 'pool', pool: 'gpu' }, 'pool/gpu', true],
    [{ type: 'pool', pool: 'cpu' }, 'pool/cpu', false],
    [{ type: 'selector', selector: 'team = data , !x' }, 'selector/team=data,!x', true],
    [{ type: 'selector', selector: 'team!=data' }, 'selector/team!=data', false],
  ])('%j has the key %s; it is for the agent: %s', (scope, key, covers) => {
    expect(scopeKey(scope)).toBe(key);
    expect(scopeCovers(scope, AGENT)).toBe(covers);
    expect(isWide(scope)).toBe(!['execution', 'agent'].includes(scope.type));
  });

  it('two freezes of one scope have two keys; that of an execution is its own', () => {
    const scope = { type: 'all' } as const;
    expect(holdOf({ scope, latchId: 'lat_1' })).not.toBe(holdOf({ scope, latchId: 'lat_2' }));
    expect(holdOf({ scope: { type: 'execution', executionId: 'exe_1' } })).toBe('execution/exe_1');
  });

  it('an agent not claimed yet is in no pool and has no labels', () => {
    const { pool: _, labels: __, ...unclaimed } = AGENT;
    expect(scopeCovers({ type: 'selector', selector: '!x' }, unclaimed)).toBe(false);
    expect(scopeCovers({ type: 'pool', pool: 'gpu' }, unclaimed)).toBe(false);
  });

  it('a stored selector that cannot be read is a corrupt record', () => {
    expect(() => conditionsOf('a b')).toThrow(expect.objectContaining({ code: 'CORRUPT_RECORD' }) as Error);
  });

  it('a refusal by a latch or a freeze names it and the way out', () => {
    const latch = {
      latchId: 'lat_1',
      kind: 'latch',
      scope: { type: 'all' },
      by: 'me',
      note: 'fire',
    } as const;
    expect(latchedError(latch)).toMatchObject({
      code: 'LATCHED',
      message:
        'The latch lat_1 covers all (by me: "fire"): nothing in its scope starts until: belay release lat_1 --note "why"',
      details: latch,
    });
    const { note: _, ...freeze } = { ...latch, kind: 'freeze' as const };
    expect(latchedError(freeze).message).toBe(
      'The freeze lat_1 covers all (by me): nothing in its scope starts until: belay thaw lat_1',
    );
  });
});

describe('the summary of an execution', () => {
  const nodes = { total: 3, completed: 2, failed: 1 };
  it.each([
    ['a completed one: start to end', { startedAt: 10, completedAt: 40 }, 30],
    ['a stopped one that never started: from its creation', { stoppedAt: 40 }, 35],
    ['one that goes on: up to now', { startedAt: 10 }, 90],
  ])('%s', (_, times, durationMs) => {
    const record = { createdAt: 5, nodes, ...times } as unknown as ExecutionRecord;
    expect(summaryOf(record, 100)).toEqual({ nodesCompleted: 2, nodesFailed: 1, nodesTotal: 3, durationMs });
  });
});
