import type { ExecutionRecord, Latch, Scope, WorkerRecord } from '#libs/contracts';
import { describePause, shownState } from './describe-pause';
import { describeWaiting, whatWaits, type ReadyNode } from './waiting';

const U = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const RECORD = {
  id: `exe_${U}`,
  state: 'running',
  labels: { team: 'data' },
  live: 2,
} as unknown as ExecutionRecord;
const node = (index: number, more: Partial<ReadyNode> = {}): ReadyNode => ({
  id: `n${index}`,
  index,
  state: 'ready',
  attempt: 1,
  ...more,
});
const worker = (id: string, pools: string[], state: WorkerRecord['state'] = 'running'): WorkerRecord =>
  ({ id, pools, state }) as unknown as WorkerRecord;
const latch = (id: string, scope: Scope, kind: Latch['kind'] = 'latch'): Latch => ({
  id,
  kind,
  scope,
  by: 'api',
  engagedAt: 0,
});
const said = (nodes: ReadyNode[], workers: WorkerRecord[], latches: Latch[] = []): string[] =>
  describeWaiting(whatWaits(RECORD, nodes, workers, latches));

describe('ready nodes that wait', () => {
  it('is said when every place of its pool is taken', () => {
    const full = { ...worker('w1', ['gpu']), running: 8, concurrency: 8 };
    const free = { ...worker('w2', ['gpu']), running: 3, concurrency: 4 };
    expect(said([node(0, { pool: 'gpu' })], [full])).toEqual([
      '1 node ready: all 8 places of pool gpu are taken',
    ]);
    expect(said([node(0, { pool: 'gpu' })], [full, free])).toEqual([]);
  });

  it('is said for a pool without a running worker, and for nodes that a latch covers', () => {
    const nodes = [0, 1, 2].map((n) => node(n, { pool: 'gpu' }));
    const workers = [worker('w1', ['default']), worker('w2', ['gpu'], 'draining')];
    expect(said(nodes, workers)).toEqual([
      '3 nodes ready: pool gpu has no worker that takes work: 1 worker of it is draining',
    ]);
    expect(said(nodes, workers.slice(0, 1))).toEqual(['3 nodes ready: pool gpu has no worker']);
    const pool = latch('lat_1', { type: 'pool', pool: 'gpu' });
    expect(said([...nodes, node(3, { pool: 'default' })], workers, [pool])).toEqual([
      '3 nodes ready: latch lat_1 covers them',
    ]);
  });

  it.each<[Scope, boolean]>([
    [{ type: 'all' }, true],
    [{ type: 'execution', executionId: RECORD.id }, true],
    [{ type: 'agent', agentId: `agt_${U}-0-1` }, true],
    [{ type: 'agent', agentId: `agt_${U}-0-2` }, false],
    [{ type: 'selector', selector: 'team=data' }, true],
    [{ type: 'selector', selector: 'team=web' }, false],
    [{ type: 'pool', pool: 'gpu' }, false],
    [{ type: 'worker', workerId: 'w2' }, false],
  ])('%j covers nodes whose own labels are unknown: %s', (scope, covers) => {
    const workers = [worker('w1', ['default'])];
    const lines = said([node(0)], workers, [latch('lat_1', scope, 'freeze')]);
    expect(lines).toEqual(covers ? ['1 node ready: freeze lat_1 covers it'] : []);
  });

  it('takes a node’s own labels before its execution’s', () => {
    const scope = { type: 'selector', selector: 'team=data' } as const;
    const own = node(0, { labels: { team: 'web' } });
    expect(said([own], [worker('w1', ['default'])], [latch('lat_1', scope)])).toEqual([]);
  });

  it('says of a latch over labels that the node may have them itself, where a place is free', () => {
    const scope = { type: 'selector', selector: 'model=large,team=data' } as const;
    const free = { ...worker('w1', ['default']), running: 0, concurrency: 2 };
    expect(said([node(0)], [free], [latch('lat_1', scope)])).toEqual([
      '1 node ready: latch lat_1 over labels model=large,team=data covers it if its own labels match',
    ]);
    expect(said([node(0)], [{ ...free, running: 2 }], [latch('lat_1', scope)])).toEqual([
      '1 node ready: all 2 places are taken',
    ]);
    expect(said([node(0)], [free], [latch('lat_1', { ...scope, selector: 'model=large,team=web' })])).toEqual(
      [],
    );
    expect(said([node(0, { labels: {} })], [free], [latch('lat_1', scope)])).toEqual([]);
  });

  it('says when every worker that could take it is latched, or when none runs', () => {
    const latches = [latch('lat_1', { type: 'worker', workerId: 'w1' })];
    const nodes = [node(0, { pool: 'gpu' })];
    expect(said(nodes, [worker('w1', ['gpu']), worker('w2', ['default'])], latches)).toEqual([
      '1 node ready: latch lat_1 covers every worker of pool gpu',
    ]);
    expect(said(nodes, [worker('w1', ['gpu']), worker('w2', ['gpu'])], latches)).toEqual([]);
    expect(said([node(0), node(1, { state: 'pending' })], [])).toEqual(['1 node ready: no worker runs']);
  });

  it('is bounded', () => {
    const nodes = Array.from({ length: 8 }, (_, n) => node(n, { pool: `p${n}` }));
    expect(said(nodes, []).slice(4)).toEqual([
      '1 node ready: pool p4 has no worker',
      '… and 3 more reasons (--json has all)',
    ]);
  });
});

describe('a pause', () => {
  it('tells drain from freeze, and shows the time left to the deadline', () => {
    const paused = { ...RECORD, state: 'paused', deadlineLeftMs: 250_000 } as const;
    expect([shownState(RECORD), shownState(paused), shownState({ ...paused, frozen: true })]).toEqual([
      'running',
      'paused',
      'frozen',
    ]);
    expect(describePause(RECORD)).toBeUndefined();
    expect(describePause(paused)).toBe(
      'paused by drain: nothing starts, 2 agents may finish; 4 min 10 s left to its deadline',
    );
    expect(describePause({ ...RECORD, state: 'paused', frozen: true, live: 1 })).toBe(
      'paused by freeze: nothing starts, 1 agent stands still',
    );
  });
});
