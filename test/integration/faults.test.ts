import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { check } from '../faults/check';
import { parseLines, type EventFacts, type History, type Line } from '../faults/history';
import { drawPlan, FAULTS, PROFILES } from '../faults/plan';

const run = promisify(execFile);
const main = join(__dirname, '../../dist/test/faults/main.js');
const SEEDS = 20;

interface SeedLine {
  readonly seed: number;
  readonly seconds: number;
  readonly violations: readonly unknown[];
  readonly injected: readonly string[];
  readonly completed: number;
  readonly failed: number;
  readonly stopped: number;
}

describe('the fault campaign, in a short run', () => {
  it('R3 R17 R25 R26 R27 R51 R52 R53 nothing that is promised is broken', async () => {
    // Exit code 1 rejects: what it printed says which seed it was, what was broken, and how to see it again.
    const args = [main, '--short', '--seeds', String(SEEDS), '--json'];
    const { stdout, stderr } = await run(process.execPath, args, { timeout: 170_000, maxBuffer: 1e8 });
    const lines = stdout.trim().split('\n');
    const seeds = lines.slice(0, -1).map((text) => JSON.parse(text) as SeedLine);
    expect(seeds.map(({ seed }) => seed)).toEqual(Array.from({ length: SEEDS }, (_, i) => i + 1));
    expect(seeds.flatMap(({ violations }) => violations)).toEqual([]);
    // It really did something: faults of most kinds, and executions of each end.
    expect(new Set(seeds.flatMap(({ injected }) => injected)).size).toBeGreaterThan(FAULTS.length / 2);
    const ends = (name: 'completed' | 'failed' | 'stopped') => seeds.reduce((sum, one) => sum + one[name], 0);
    expect(ends('completed')).toBeGreaterThan(0);
    expect(ends('stopped')).toBeGreaterThan(0);
    expect(stderr).toMatch(/20 seeds in \d+ s, [\d.]+ s a seed: no violation/);
  }, 180_000);

  it('a seed is the same plan every time, and another seed another', () => {
    const draw = (seed: number) => JSON.stringify(drawPlan(seed, PROFILES.full));
    expect(draw(7)).toBe(draw(7));
    expect(new Set(Array.from({ length: 200 }, (_, seed) => draw(seed))).size).toBe(200);
    const kinds = Array.from({ length: 200 }, (_, seed) => drawPlan(seed, PROFILES.full).steps).flat();
    expect(new Set(kinds.flatMap((step) => (step.do === 'fault' ? step.kind : [])))).toEqual(new Set(FAULTS));
  });
});

// What looks for broken promises must be seen to find them.
describe('the checker', () => {
  const EXE = 'exe_X';
  const [FIRST, SECOND] = ['agt_X-0-1', 'agt_X-0-2'];
  /** Valkey's clock in this history is 1,000 s ahead of the machine's. */
  const wallOffset = 1_000;
  const event = (type: string, at: number, more: Partial<EventFacts> = {}): Omit<EventFacts, 'seq'> => {
    const [entity = '', to] = type.split('.');
    return { type, entity, to, atMs: (at + wallOffset) * 1_000, ...more };
  };
  const agent = (id: string, type: string, from: string | undefined, at: number, reason?: string) =>
    event(`agent.${type}`, at, { agentId: id, from, reason });
  const node = (type: string, from: string, at: number) => event(`node.${type}`, at, { nodeId: 'n0', from });
  const life = (agentId: string, pid: number, from: number, to: number): Line[] => {
    const at = (time: number, word: Line['word']): Line => ({ word, agentId, pid, startTime: '9', at: time });
    return [{ ...at(from, 'start'), role: 'main' }, at((from + to) / 2, 'beat'), at(to, 'beat')];
  };

  /** An attempt lost with its worker, another one killed by an order with a complete receipt: all is well. */
  function sound() {
    const events = [
      event('execution.idle', 1),
      event('execution.running', 1, { from: 'idle' }),
      node('ready', 'pending', 1),
      agent(FIRST, 'spawning', undefined, 2),
      node('running', 'ready', 2),
      agent(FIRST, 'running', 'spawning', 2.1),
      agent(FIRST, 'failed', 'running', 6, 'worker_lost'),
      node('ready', 'running', 6),
      agent(SECOND, 'spawning', undefined, 7),
      node('running', 'ready', 7),
      agent(SECOND, 'running', 'spawning', 7.1),
      event('execution.stopping', 8, { from: 'running' }),
      agent(SECOND, 'killed', 'running', 8.2, 'user_abort'),
      node('cancelled', 'running', 8.2),
      event('execution.stopped', 8.2, { from: 'stopping' }),
    ].map((one, i): EventFacts => ({ ...one, seq: i + 1 }));
    const receipt = {
      orderId: 'ord_1',
      kind: 'kill',
      complete: true,
      targets: [{ agentId: SECOND, workerId: 'wrk_2', outcome: 'killed', survivors: 0 }],
    };
    return {
      executions: [
        {
          id: EXE,
          team: 'a',
          accepted: true,
          state: 'stopped' as string | undefined,
          events,
          nodes: [{ id: 'n0', state: 'cancelled' }],
          agents: [
            { id: FIRST, state: 'failed', owner: 'wrk_1', reason: 'worker_lost', proved: true },
            { id: SECOND, state: 'killed', owner: 'wrk_2', reason: 'user_abort', proved: true },
          ],
        },
      ],
      orders: [
        {
          name: 'stop',
          covers: { what: 'execution', executionId: EXE },
          askedAt: 8,
          answeredAt: 8.3,
          status: 'stopped',
          receipt,
        },
      ] as History['orders'][number][],
      holds: [] as History['holds'][number][],
      receipts: [receipt],
      faults: [{ kind: 'worker-kill9', at: 3, workerId: 'wrk_1' }] as History['faults'][number][],
      lines: [...life(FIRST, 11, 2.1, 3), ...life(SECOND, 12, 7.1, 8.1)],
      aliveAtEnd: [] as string[],
      aliveAfter: [] as string[],
      wallOffset,
    };
  }
  type Sound = ReturnType<typeof sound>;
  const found = (change: (history: Sound) => void): string[] => {
    const history = sound();
    change(history);
    return check(history).map(({ rule, what }) => `${rule}: ${what}`);
  };
  const execution = ({ executions: [one] }: Sound) => one as Sound['executions'][number];
  const order = ({ orders: [one] }: Sound) => one as Sound['orders'][number];
  const latched = (history: Sound, covers: History['orders'][number]['covers']): void => {
    history.orders.push({ name: 'kill', covers, askedAt: 4, answeredAt: 5, releasedAt: 9 });
  };

  it('finds nothing in a sound history', () => {
    expect(found(() => undefined)).toEqual([]);
  });

  it.each<[string, (history: Sound) => void, RegExp]>([
    [
      'a second copy of an attempt',
      ({ lines }) => lines.push(...life(SECOND, 13, 7.2, 8.1)),
      /^one-copy: agt_X-0-2 was started 2 times: 12:9, 13:9$/,
    ],
    [
      'an attempt that lives on beside its successor',
      ({ lines }) => lines.push({ ...(lines[1] as Line), at: 7.5 }),
      /^one-copy: agt_X-0-1 \(pid 11\) was alive 0.40 s after agt_X-0-2 had started$/,
    ],
    [
      'one that worker and guardian left, and that outlives its reaping',
      ({ lines, faults }) => {
        faults.push({ kind: 'worker-and-guardian-kill9', at: 3, workerId: 'wrk_1', reapedAt: 7.3 });
        lines.push({ ...(lines[1] as Line), at: 7.5 });
      },
      /^one-copy: agt_X-0-1/,
    ],
    [
      'a beat after the proof',
      ({ lines }) => lines.push({ ...(lines[4] as Line), at: 8.28 }),
      /^proved-dead: agt_X-0-2 \(pid 12\) wrote 0.08 s after its agent.killed$/,
    ],
    [
      'a beat after the receipt',
      ({ lines }) => lines.push({ ...(lines[4] as Line), at: 8.4 }),
      /^receipt: ord_1 called agt_X-0-2 killed, and pid 12 wrote 0.10 s later$/,
    ],
    [
      'a gap in the events',
      (history) => execution(history).events.splice(7, 1),
      /^history: exe_X: event 8 \(agent.spawning\) has seq 9$/,
    ],
    [
      'a duplicate of an event',
      (history) => {
        const { events } = execution(history);
        events.splice(3, 0, events[2] as EventFacts);
      },
      /^history: exe_X: event 4 \(node.ready\) has seq 3$/,
    ],
    [
      'an illegal transition',
      (history) => {
        const { events } = execution(history);
        events[5] = { ...(events[5] as EventFacts), type: 'agent.spawning', to: 'spawning' };
      },
      /^history: exe_X: event 6: agent agt_X-0-1 may not go from spawning to spawning$/,
    ],
    [
      'a move after the end',
      (history) =>
        execution(history).events.push({ ...event('execution.failed', 9, { from: 'stopped' }), seq: 16 }),
      /^history: exe_X: event 16: execution may not go from stopped to failed$/,
    ],
    [
      'a record that its events do not lead to',
      (history) => {
        execution(history).nodes = [{ id: 'n0', state: 'completed' }];
      },
      /^history: exe_X: node n0 is completed, and by its events cancelled$/,
    ],
    [
      'an accepted execution that is gone',
      (history) => Object.assign(execution(history), { state: undefined, events: [], nodes: [], agents: [] }),
      /^accepted: exe_X was accepted and is not there$/,
    ],
    [
      'one that does not end',
      (history) => {
        const { events } = execution(history);
        events.pop();
        Object.assign(execution(history), { state: 'stopping' });
      },
      /^accepted: exe_X is stopping although/,
    ],
    [
      'a start under a latch',
      (history) => latched(history, { what: 'team', team: 'a' }),
      /^obeyed: kill {"what":"team","team":"a"}: agt_X-0-2 \(pid 12\): start 2.10 s after the answer$/,
    ],
    [
      'a claim under a latch without a kill',
      (history) => {
        latched(history, { what: 'team', team: 'a' });
        history.orders[1] = { ...(history.orders[1] as Sound['orders'][number]), startsOnly: true };
      },
      /^obeyed: kill {"what":"team","team":"a"}: agt_X-0-2 was claimed 2.00 s after the answer$/,
    ],
    [
      'a start on a killed worker',
      (history) => latched(history, { what: 'worker', workerId: 'wrk_2' }),
      /^obeyed: kill .*wrk_2.*: agt_X-0-2/,
    ],
    [
      'a survivor of a receipt',
      ({ aliveAtEnd }) => aliveAtEnd.push(`12:9 ${SECOND}`),
      /^receipt: ord_1 calls agt_X-0-2 killed, and alive: 12:9$/,
    ],
    [
      'a target that is never proved',
      (history) => {
        const open = { agentId: FIRST, workerId: 'wrk_1', outcome: 'unconfirmed', survivors: 0 };
        history.receipts = [{ orderId: 'ord_1', kind: 'kill', complete: false, targets: [open] }];
      },
      /^receipt: ord_1: agt_X-0-1 is unconfirmed although everything was healed$/,
    ],
    [
      'a target that an answer leaves open without a fault',
      (history) => {
        const open = { agentId: SECOND, workerId: 'wrk_2', outcome: 'unconfirmed', survivors: 0 };
        const receipt = { orderId: 'ord_1', kind: 'kill', complete: false, targets: [open] };
        Object.assign(order(history), { status: 'failed', receipt });
      },
      /^receipt: ord_1: agt_X-0-2 is unconfirmed in the answer, and no fault explains it$/,
    ],
    [
      'a stop that answers before its proof',
      (history) => {
        const open = { agentId: SECOND, workerId: 'wrk_2', outcome: 'pending', survivors: 0 };
        order(history).receipt = { orderId: 'ord_1', kind: 'kill', complete: false, targets: [open] };
      },
      /^receipt: stop answered stopped while agt_X-0-2 was pending$/,
    ],
    [
      'a frozen agent that goes on',
      ({ holds, orders, faults }) => {
        faults.pop();
        orders.pop();
        holds.push({ name: 'freeze team a', agentIds: [SECOND], from: 7.2, until: 7.9 });
      },
      /^held: freeze team a: agt_X-0-2 \(pid 12\) went on 0.40 s after the answer$/,
    ],
    [
      'a process that outlives its fleet',
      ({ aliveAfter }) => aliveAfter.push('12:9'),
      /^nothing-left: 12:9 outlived its fleet$/,
    ],
  ])('finds %s', (_name, change, expected) => {
    const violations = found(change);
    expect(violations).toEqual(expect.arrayContaining([expect.stringMatching(expected)]));
  });

  it('allows what worker and guardian left until it is reaped, and what an answer itself called open', () => {
    expect(
      found(({ lines, faults }) => {
        faults.push({ kind: 'worker-and-guardian-kill9', at: 3, workerId: 'wrk_1', reapedAt: 7.6 });
        lines.push({ ...(lines[1] as Line), at: 7.5 });
      }),
    ).toEqual([]);
    expect(
      found((history) => {
        latched(history, { what: 'all' });
        const open = { agentId: SECOND, workerId: 'wrk_2', outcome: 'pending', survivors: 0 };
        const kill = history.orders[1] as Sound['orders'][number];
        // Claimed just before the answer, and started after it.
        kill.answeredAt = 7.05;
        history.faults.push({ kind: 'link-cut', at: 4.5, workerId: 'wrk_2' });
        kill.receipt = { orderId: 'ord_0', kind: 'kill', complete: false, targets: [open] };
      }),
    ).toEqual([]);
  });

  it('reads what agents write, and leaves out what was cut short', () => {
    const text =
      'start agt_X-0-1 11 900 2.10 1 5 main\nbeat agt_X-0-1 11 900 2.20\nbeat agt_X-0-1 11 900 2.\n';
    expect(parseLines(text)).toEqual([
      { word: 'start', agentId: 'agt_X-0-1', pid: 11, startTime: '900', at: 2.1, role: 'main' },
      { word: 'beat', agentId: 'agt_X-0-1', pid: 11, startTime: '900', at: 2.2 },
    ]);
  });
});

describe('usage', () => {
  it.each([
    [['--seed', '3'], 'No option --seed. There are: --seeds N, --from S, --minutes M, --short, --json.\n'],
    [['--seeds', 'x'], '--seeds takes a whole number up to 1000000, not "x".\n'],
  ])('%j is refused with what there is', async (args, stderr) => {
    await expect(run(process.execPath, [main, ...args])).rejects.toMatchObject({
      code: 2,
      stdout: '',
      stderr,
    });
  });
});
