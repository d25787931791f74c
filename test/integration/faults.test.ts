import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { check } from '../faults/check';
import {
  parseLines,
  type EventFacts,
  type History,
  type Line,
  type LossWindow,
  type Span,
} from '../faults/history';
import { isEndless } from '../faults/draw-executions';
import { drawPlan, PROFILES } from '../faults/plan';
import { FAULTS, type GroundKind } from '../faults/plan-types';

const run = promisify(execFile);
const main = join(__dirname, '../../dist/test/faults/main.js');
const SEEDS = 8;
/** A seed mostly waits: for leases, for graces, for programs to start. */
const AT_A_TIME = 4;

interface SeedLine {
  readonly seed: number;
  readonly seconds: number;
  readonly violations: readonly unknown[];
  readonly injected: readonly string[];
  readonly completed: number;
  readonly failed: number;
  readonly stopped: number;
  readonly meant: number;
  readonly did: number;
}

describe('the fault campaign, in a short run', () => {
  it('R3 R17 R25 R26 R27 R51 R52 R53 nothing that is promised is broken', async () => {
    const args = [main, '--short', '--seeds', String(SEEDS), '--parallel', String(AT_A_TIME), '--json'];
    // With exit code 1, the lines of the seeds say which promise was broken, so they are compared and not thrown away.
    const ran = run(process.execPath, args, { timeout: 290_000, maxBuffer: 1e8 });
    const { stdout, stderr } = await ran.catch(
      (error: { code?: unknown; stdout: string; stderr: string }) => {
        if (error.code === 1) return error;
        throw error;
      },
    );
    const lines = stdout.trim().split('\n');
    const seeds = lines.slice(0, -1).map((text) => JSON.parse(text) as SeedLine);
    expect(seeds.map(({ seed }) => seed)).toEqual(Array.from({ length: SEEDS }, (_, i) => i + 1));
    expect(seeds.flatMap(({ violations }) => violations)).toEqual([]);
    // The campaign really did something: faults of many kinds, and executions of each end.
    expect(new Set(seeds.flatMap(({ injected }) => injected)).size).toBeGreaterThan(FAULTS.length / 2);
    const ends = (name: 'completed' | 'failed' | 'stopped' | 'meant' | 'did') =>
      seeds.reduce((sum, one) => sum + one[name], 0);
    expect(ends('did')).toBe(ends('meant'));
    expect(ends('did')).toBeGreaterThanOrEqual((ends('completed') + ends('failed') + ends('stopped')) / 2);
    expect(ends('stopped')).toBeGreaterThan(0);
    expect(stderr).toMatch(/8 seeds in \d+ s, [\d.]+ s a seed: no violation/);
  }, 300_000);

  it('at least half of the submitted executions are meant to complete, in either profile', () => {
    for (const profile of [PROFILES.full, PROFILES.short]) {
      const all = Array.from({ length: 500 }, (_, seed) => drawPlan(seed, profile).executions).flat();
      const meant = all.filter((one) => one.meant);
      expect(meant.length / all.length).toBeGreaterThan(0.55);
      expect(all.filter((one) => isEndless(one)).length).toBeGreaterThan(0);
      expect(meant.filter((one) => isEndless(one))).toEqual([]);
    }
  });

  it('a seed is the same plan every time, and another seed another', () => {
    const draw = (seed: number) => JSON.stringify(drawPlan(seed, PROFILES.full));
    expect(draw(7)).toBe(draw(7));
    expect(new Set(Array.from({ length: 200 }, (_, seed) => draw(seed))).size).toBe(200);
    const kindsOf = (ground: GroundKind) =>
      Array.from({ length: 200 }, (_, seed) =>
        drawPlan(seed, ground === 'server' ? PROFILES.full : PROFILES.many, ground).steps.flatMap((step) =>
          step.do === 'fault' ? step.kind : [],
        ),
      ).flat();
    const all = [...kindsOf('server'), ...kindsOf('cluster')];
    expect(new Set(all)).toEqual(new Set(FAULTS));
    expect(new Set(kindsOf('sentinel'))).toEqual(new Set(kindsOf('cluster')));
  });
});

// A checker of promises must be shown to find broken ones.
describe('the checker', () => {
  const EXE = 'exe_X';
  const [FIRST, SECOND] = ['agt_X-0-1', 'agt_X-0-2'];
  /** The server's clock in this history is 1,000 s ahead of the machine's. */
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

  /** One attempt was lost with its worker, another killed by an order with a complete receipt: no promise is broken. */
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
          nodes: [
            { id: 'n0', state: 'cancelled', pool: 'default', role: 'x' },
          ] as History['executions'][number]['nodes'],
          name: 'e0',
          costUsd: 0,
          agents: [
            {
              id: FIRST,
              nodeId: 'n0',
              state: 'failed',
              owner: 'wrk_1',
              reason: 'worker_lost',
              proved: true,
              costUsd: 0,
            },
            {
              id: SECOND,
              nodeId: 'n0',
              state: 'killed',
              owner: 'wrk_2',
              reason: 'user_abort',
              proved: true,
              costUsd: 0,
            },
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
      workers: [
        { id: 'wrk_1', pools: ['default'], state: 'running', reason: '' },
        { id: 'wrk_2', pools: ['default'], state: 'running', reason: '' },
      ] as History['workers'][number][],
      drains: [] as History['drains'][number][],
      drills: [] as History['drills'][number][],
      armed: [] as History['armed'][number][],
      produced: [] as History['produced'][number][],
      retried: [] as string[],
      unfinished: [] as History['unfinished'][number][],
      stepped: [] as string[],
      forged: [] as string[],
      forgotten: [] as History['forgotten'][number][],
      pruned: false,
      accepted: {} as Record<string, Span>,
      lossWindows: [] as History['lossWindows'][number][],
      faults: [{ kind: 'worker-kill9', at: 3, workerId: 'wrk_1' }] as History['faults'][number][],
      lines: [...life(FIRST, 11, 2.1, 3), ...life(SECOND, 12, 7.1, 8.1)],
      aliveAtEnd: [] as string[],
      aliveAfter: [] as string[],
      wallOffset,
      lateS: 0,
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
  /**
   * The second attempt's worker is asked to end while the attempt runs; the fault that hit the other worker does not matter to
   * it.
   */
  const drained = (history: Sound, drain: Partial<History['drains'][number]>): void => {
    history.drains.push({
      role: 'worker',
      id: 'wrk_2',
      askedAt: 7.3,
      limitAt: 8,
      forced: false,
      endedAt: 8.4,
      code: 3,
      ...drain,
    });
    Object.assign(history.workers[1] ?? {}, { state: 'stopped', reason: 'forced' });
  };
  const end = (history: Sound, change: Partial<EventFacts>): void => {
    const { events } = execution(history);
    events[12] = { ...(events[12] as EventFacts), ...change };
  };
  const costs = (history: Sound, said: number, stored: number): void => {
    const spent: Line = { ...(history.lines[4] as Line), word: 'cost', usd: said };
    history.lines.push(spent);
    const { agents } = execution(history);
    agents[1] = { ...(agents[1] as (typeof agents)[number]), costUsd: stored };
    Object.assign(execution(history), { costUsd: stored });
  };
  const limit = (history: Sound, more: Partial<Sound['executions'][number]['nodes'][number]>): void => {
    const { nodes } = execution(history);
    execution(history).nodes = nodes.map((one) => ({ ...one, ...more }));
  };
  const handedIn = (history: Sound, job: History['produced'][number]['job']): void => {
    history.produced.push({ name: 'e0', accepted: true, executionId: EXE, ...(job && { job }) });
  };
  const latched = (history: Sound, covers: History['orders'][number]['covers']): void => {
    history.orders.push({ name: 'kill', covers, askedAt: 4, answeredAt: 5, releasedAt: 9 });
  };

  /** The second attempt is frozen, reports that, and writes on. */
  const frozen = (history: Sound): void => {
    const covers = { what: 'team', team: 'a' } as const;
    history.orders.push({
      name: 'freeze-team',
      covers,
      startsOnly: true,
      askedAt: 7.15,
      answeredAt: 7.2,
      releasedAt: 7.9,
    });
    history.holds.push({ name: 'freeze team a', agentIds: [SECOND], from: 7.2, until: 7.9, askedAt: 7.15 });
    const { agents } = execution(history);
    agents[1] = { ...(agents[1] as (typeof agents)[number]), state: 'running' };
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
      (history) => {
        frozen(history);
        history.orders.shift();
      },
      /^held: freeze team a: agt_X-0-2 \(pid 12\) went on 0.40 s after the answer$/,
    ],
    [
      'a frozen agent that goes on beside a fault, and is not ended',
      (history) => {
        frozen(history);
        history.orders.shift();
        history.faults.push({ kind: 'link-stalled', at: 7, until: 7.5, workerId: 'wrk_2' });
        history.lines.push({ ...(history.lines[4] as Line), at: 9.7 });
      },
      /^held: freeze team a: agt_X-0-2/,
    ],
    [
      'an agent that a forged order ended',
      (history) => {
        history.forged.push('ord_9');
        const { agents } = execution(history);
        Object.assign(agents[1] as object, { orderId: 'ord_9' });
      },
      /^forged: agt_X-0-2 is killed by ord_9, which nobody gave$/,
    ],
    [
      'what nobody can have seen dead, and the store has forgotten',
      ({ forgotten }) =>
        forgotten.push({ agentId: FIRST, workerId: 'wrk_1', how: 'has no execution any more' }),
      /^unproved: agt_X-0-1 has no execution any more, and nobody can have seen what wrk_1 left$/,
    ],
    [
      'one that is gone, accepted outside of the window in which it may be lost',
      (history) => {
        Object.assign(execution(history), { state: undefined, events: [], nodes: [], agents: [] });
        history.accepted[EXE] = { from: 0.5, to: 1 };
        history.lossWindows.push({ from: 2, to: 3 });
      },
      /^accepted: exe_X was accepted and is not there$/,
    ],
    [
      'an execution that does not end by itself',
      ({ unfinished }) => unfinished.push({ id: EXE, state: 'running', boundS: 40, why: 'n0 is ready' }),
      /^ends: exe_X \(e0\) was running 40 s after the healing, and nobody had stopped it: n0 is ready$/,
    ],
    [
      'one that was to complete and was stopped',
      (history) => Object.assign(execution(history), { meant: true, reason: 'error' }),
      /^ends: exe_X \(e0\) was meant to complete, and is stopped \(error\)$/,
    ],
    [
      'one that was to complete and failed',
      (history) => {
        const error = 'NODE_FAILED: n0 failed';
        Object.assign(execution(history), { meant: true, state: 'failed', error });
        execution(history).nodes = [{ id: 'n0', state: 'failed' }];
      },
      /^ends: exe_X \(e0\) was meant to complete, and is failed \(NODE_FAILED: n0 failed; failed: n0\)$/,
    ],
    [
      'a start under a latch over its pool',
      (history) => latched(history, { what: 'pool', pool: 'default' }),
      /^obeyed: kill .*pool.*: agt_X-0-2 \(pid 12\): start/,
    ],
    [
      'a start under a latch over a label of its node',
      (history) => latched(history, { what: 'role', role: 'x' }),
      /^obeyed: kill .*role.*: agt_X-0-2 \(pid 12\): start/,
    ],
    [
      'a start on a worker that was emptied over its socket',
      (history) => {
        latched(history, { what: 'worker', workerId: 'wrk_2' });
        history.orders[1] = { ...(history.orders[1] as Sound['orders'][number]), local: true };
      },
      /^obeyed: kill .*wrk_2.*: agt_X-0-2 \(pid 12\): start/,
    ],
    [
      'one that runs on past its timeout',
      (history) => {
        limit(history, { timeoutMs: 300 });
        history.lines.push({ ...(history.lines[4] as Line), at: 9.5 });
      },
      /^bound: agt_X-0-2 ran 2.40 s, with a timeout of 0.30 s$/,
    ],
    [
      'a timeout before its time',
      (history) => {
        limit(history, { timeoutMs: 3_000 });
        end(history, { type: 'agent.failed', to: 'failed', reason: 'timeout' });
      },
      /^bound: agt_X-0-2 was ended by a timeout 1.20 s after its claim$/,
    ],
    [
      'a deadline that nobody kept',
      (history) => Object.assign(execution(history), { timeoutMs: 1_000 }),
      /^bound: exe_X went on to 7.00 s of running, with a deadline of 1 s$/,
    ],
    [
      'a deadline before its time',
      (history) => {
        const { events } = execution(history);
        events[11] = { ...(events[11] as EventFacts), reason: 'timeout' };
        Object.assign(execution(history), { timeoutMs: 60_000 });
      },
      /^bound: exe_X was ended by a deadline after 7.00 s of running, and has 60$/,
    ],
    [
      'an execution that completes beyond its budget',
      (history) => {
        costs(history, 0.5, 0.5);
        Object.assign(execution(history), { maxCostUsd: 0.4, state: 'completed' });
      },
      /^bound: exe_X completed with 0.5 spent of 0.4$/,
    ],
    [
      'a budget that ended what had not spent it',
      (history) => {
        costs(history, 0.3, 0.3);
        Object.assign(execution(history), { maxCostUsd: 0.4, reason: 'budget_exceeded' });
      },
      /^bound: exe_X was ended by its budget of 0.4 after 0.3$/,
    ],
    [
      'one that spends on after its budget',
      (history) => {
        costs(history, 0.5, 0.5);
        history.faults.length = 0;
        Object.assign(execution(history), { maxCostUsd: 0.4 });
        history.lines.push({ ...(history.lines[4] as Line), word: 'cost', usd: 0.01, at: 13 });
      },
      /^bound: exe_X spent on for \d.\d\d s after its budget of 0.4$/,
    ],
    [
      'money that is not stored',
      (history) => costs(history, 0.5, 0.3),
      /^bound: agt_X-0-2 spent 0.50, and 0.3 of it is stored$/,
    ],
    [
      'money that nobody spent',
      (history) => costs(history, 0.1, 0.3),
      /^bound: agt_X-0-2 cost 0.3, and spent 0.10$/,
    ],
    [
      'an agent that a stepped clock cost',
      (history) => {
        history.stepped.push('wrk_2');
        end(history, { type: 'agent.failed', to: 'failed', reason: 'worker_lost' });
      },
      /^bound: agt_X-0-2 was lost with wrk_2, and only its clock was stepped$/,
    ],
    [
      'a claim by a worker of another pool',
      (history) => limit(history, { pool: 'side' }),
      /^bound: agt_X-0-2 of the pool side was claimed by wrk_2, which takes default$/,
    ],
    [
      'a drain that leaves a process',
      (history) => {
        drained(history, {});
        history.lines.push({ ...(history.lines[4] as Line), at: 8.6 });
      },
      /^drained: worker wrk_2 had exited, and its agt_X-0-2 wrote$/,
    ],
    [
      'a drain that never ends',
      ({ drains }) => drains.push({ role: 'worker', id: 'wrk_2', askedAt: 7.3, limitAt: 8, forced: false }),
      /^drained: worker wrk_2 did not end although it was asked to$/,
    ],
    [
      'an exit code of 0 of a worker that stopped its agents',
      (history) => {
        drained(history, { code: 0 });
        end(history, { type: 'agent.failed', to: 'failed', reason: 'server_shutdown' });
      },
      /^drained: worker wrk_2 exited with 0, and had stopped agt_X-0-2$/,
    ],
    [
      'an exit code of 3 of a worker with nothing to stop',
      (history) => drained(history, { limitAt: 8.35 }),
      /^drained: worker wrk_2 exited with 3, and nothing of it ran to the limit$/,
    ],
    [
      'another exit code without a fault',
      (history) => drained(history, { role: 'orchestrator', id: 'orchestrator', code: 1 }),
      /^drained: orchestrator orchestrator was drained and exited with 1$/,
    ],
    [
      'a claim while it drains',
      (history) => drained(history, { askedAt: 5 }),
      /^drained: worker wrk_2 was draining, and claimed agt_X-0-2$/,
    ],
    [
      'a stop before the patience of a drain is over',
      (history) => {
        drained(history, { limitAt: 8.3 });
        end(history, { type: 'agent.failed', to: 'failed', reason: 'server_shutdown' });
      },
      /^drained: worker wrk_2 stopped agt_X-0-2 before its patience was over$/,
    ],
    [
      'a drained worker that is stored as running',
      (history) => {
        drained(history, {});
        Object.assign(history.workers[1] ?? {}, { state: 'running', reason: undefined });
      },
      /^drained: worker wrk_2 exited with 3, and is stored as running \(undefined\)$/,
    ],
    [
      'a drill that was passed with a canary alive',
      ({ drills }) => drills.push({ workerId: 'wrk_2', passed: true, outcomes: ['killed'], alive: ['7:1'] }),
      /^drill: the drill of wrk_2 was passed, and alive: 7:1$/,
    ],
    [
      'a drill that was passed with a canary unconfirmed',
      ({ drills }) => drills.push({ workerId: 'wrk_2', passed: true, outcomes: ['unconfirmed'], alive: [] }),
      /^drill: the drill of wrk_2 was passed with unconfirmed$/,
    ],
    [
      'a stopped worker that is called armed',
      ({ armed, faults }) => {
        faults.push({ kind: 'worker-sigstop-long', at: 4, until: 6, workerId: 'wrk_2' });
        const workers = [{ workerId: 'wrk_2', armed: true }];
        armed.push({ askedAt: 4.5, answeredAt: 5, armed: true, workers });
      },
      /^drill: wrk_2 was called armed while it could hear nobody, and so was the fleet$/,
    ],
    [
      'a calm fleet that is not armed',
      ({ armed }) => armed.push({ askedAt: 1, answeredAt: 2, armed: false, workers: [] }),
      /^drill: not armed, and nothing explains it$/,
    ],
    [
      'a job that became two executions',
      (history) => {
        handedIn(history, { status: 'stopped', costUsd: 0 });
        history.executions.push({ ...execution(history), id: 'exe_Y', events: [], nodes: [], agents: [] });
      },
      /^produced: e0 was handed in once and is exe_X, exe_Y$/,
    ],
    [
      'a job that tells another end',
      (history) => handedIn(history, { status: 'completed', costUsd: 0 }),
      /^produced: the job of e0 says completed, and its execution is stopped$/,
    ],
    [
      'a job that is not over with its execution',
      (history) => handedIn(history, undefined),
      /^produced: the job of e0 is not over with its execution$/,
    ],
    [
      'a job that was taken and never ran',
      ({ produced }) => produced.push({ name: 'e1', accepted: true }),
      /^produced: the job of e1 was accepted, and there is no execution$/,
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

  it('allows a drain past its limit, a retry after a stop, and a deadline that stood still', () => {
    expect(
      found((history) => {
        drained(history, {});
        end(history, { type: 'agent.killed', reason: 'server_shutdown' });
        handedIn(history, { status: 'stopped', costUsd: 0 });
        costs(history, 0.5, 0.5);
        execution(history).costUsd = 0.5;
        history.produced[0] = { name: 'e0', accepted: true, executionId: EXE };
        history.faults.push({ kind: 'server-full', at: 1, until: 1.5 });
      }),
    ).toEqual([]);
    expect(
      found((history) => {
        // Stopped once before, by an order that a retry has superseded.
        const { events } = execution(history);
        const again = [
          event('execution.stopping', 1.1, { from: 'running' }),
          event('execution.stopped', 1.2, { from: 'stopping' }),
          event('execution.running', 1.5, { from: 'stopped' }),
        ];
        events.splice(2, 0, ...(again as EventFacts[]));
        execution(history).events = events.map((one, i) => ({ ...one, seq: i + 1 }));
        history.retried.push(EXE);
        const covers = { what: 'execution', executionId: EXE } as const;
        history.orders.push({ name: 'stop', covers, askedAt: 1, answeredAt: 1.3, releasedAt: 1.45 });
      }),
    ).toEqual([]);
  });

  it('allows a frozen agent to be woken by an order to end it, by the end of another freeze, and to be ended', () => {
    // Its stop was requested at 8.
    expect(found((history) => frozen(history))).not.toEqual([]);
    const allowed = (change: (history: Sound) => void): string[] =>
      found((history) => {
        frozen(history);
        change(history);
      }).filter((what) => what.startsWith('held'));
    expect(allowed(({ orders: [stop] }) => Object.assign(stop as object, { askedAt: 7.5 }))).toEqual([]);
    const covers = { what: 'agent', agentId: SECOND } as const;
    const second = { name: 'freeze-agent', covers, startsOnly: true, askedAt: 7.1, releasedAt: 7.4 } as const;
    expect(allowed(({ orders }) => orders.push({ ...second }))).toEqual([]);
    expect(allowed(({ orders }) => orders.push({ ...second, releasedAt: 8 }))).not.toEqual([]);
    // Its worker's fence: it was woken to be ended, and it ended.
    expect(
      allowed((history) => {
        const { agents } = execution(history);
        Object.assign(agents[1] as object, { state: 'failed', reason: 'worker_lost' });
      }),
    ).toEqual([]);
  });

  it('allows a deadline to be noticed late on a machine that was late itself, and no later', () => {
    const late = (lateS: number): string[] =>
      found((history) => {
        Object.assign(execution(history), { timeoutMs: 1_000 });
        history.lateS = lateS;
      });
    expect(late(0.55)).toHaveLength(1);
    expect(late(0.65)).toEqual([]);
  });

  it('allows an execution to be lost that was accepted in the window, and no other', () => {
    const lost = (from: number, to: number): string[] =>
      found((history) => {
        Object.assign(history, { orders: [], receipts: [], lines: [] });
        Object.assign(execution(history), { state: undefined, events: [], nodes: [], agents: [] });
        history.accepted[EXE] = { from, to };
        history.lossWindows.push({ from: 2, to: 3 });
      });
    // Stored before the answer came: an answer after the window may be for a write within it.
    expect([lost(2.5, 2.6), lost(1, 2.1), lost(2.9, 4), lost(3.1, 3.5).length, lost(1, 1.9).length]).toEqual([
      [],
      [],
      [],
      1,
      1,
    ]);
  });

  it('allows a claim past the freeze of one agent that a failover lost with its claim, and past no other', () => {
    const past = (window: LossWindow, covers: Sound['orders'][number]['covers']): string[] =>
      found((history) => {
        latched(history, covers);
        const freeze = history.orders[1] as Sound['orders'][number];
        Object.assign(freeze, { startsOnly: true, askedAt: 6.3, answeredAt: 6.4 });
        // Its first copy had written its first line before.
        history.lines.push({ ...(history.lines[3] as Line), at: 6.2, word: 'beat' });
        history.lossWindows.push(window);
      }).filter((text) => text.startsWith('obeyed'));
    const agent = { what: 'agent', agentId: SECOND } as const;
    expect([
      past({ from: 6, to: 6.9 }, agent),
      past({ from: 6.5, to: 6.9 }, agent).length,
      past({ from: 6, to: 6.9 }, { what: 'all' }).length,
    ]).toEqual([[], 1, 1]);
  });

  it('allows an attempt to be started twice whose claim may be lost, and no other', () => {
    const twice = (from: number, to: number): string[] =>
      found((history) => {
        history.lines.push(...life(SECOND, 13, 7.2, 8.1));
        history.lossWindows.push({ from, to });
      }).filter((text) => text.startsWith('one-copy'));
    expect([twice(6, 8), twice(1, 2).length]).toEqual([[], 1]);
  });

  it('allows agents of a dead worker and guardian until they are reaped, and targets that an answer itself called open', () => {
    expect(
      found(({ lines, faults }) => {
        faults.push({ kind: 'worker-and-guardian-kill9', at: 3, workerId: 'wrk_1', reapedAt: 7.6 });
        lines.push({ ...(lines[1] as Line), at: 7.5 });
      }),
    ).toEqual([]);
    // Once its record is pruned, its own lines name the worker that started it.
    const pruned = (workerId: string): string[] =>
      found((history) => {
        const { lines, faults, executions } = history;
        Object.assign(history, { orders: [], receipts: [], pruned: true });
        Object.assign(executions[0] as Sound['executions'][number], {
          state: undefined,
          events: [],
          nodes: [],
          agents: [],
        });
        Object.assign(lines[0] as Line, { workerId });
        faults.push({ kind: 'worker-gone-pruned', at: 3, workerId: 'wrk_1', reapedAt: 7.6 });
        lines.push({ ...(lines[1] as Line), at: 7.5 });
      }).filter((text) => text.startsWith('one-copy'));
    expect([pruned('wrk_1'), pruned('wrk_2').length]).toEqual([[], 1]);
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

  it('reads the agents’ lines, and leaves out a cut one', () => {
    const text =
      'start agt_X-0-1 11 900 2.10 1 5 main wrk_1\nbeat agt_X-0-1 11 900 2.20\nbeat agt_X-0-1 11 900 2.\n';
    expect(parseLines(text)).toEqual([
      {
        word: 'start',
        agentId: 'agt_X-0-1',
        pid: 11,
        startTime: '900',
        at: 2.1,
        role: 'main',
        workerId: 'wrk_1',
      },
      { word: 'beat', agentId: 'agt_X-0-1', pid: 11, startTime: '900', at: 2.2 },
    ]);
  });
});

describe('usage', () => {
  it.each([
    [
      ['--seed', '3'],
      'No option --seed. There are: --seeds N, --from S, --minutes M, --parallel P, --ground server|sentinel|cluster, --short, --json.\n',
    ],
    [['--ground', 'moon'], '--ground is one of server, sentinel, cluster, not "moon".\n'],
    [['--seeds', 'x'], '--seeds takes a whole number up to 1000000, not "x".\n'],
  ])('%j is refused with the possible values', async (args, stderr) => {
    await expect(run(process.execPath, [main, ...args])).rejects.toMatchObject({
      code: 2,
      stdout: '',
      stderr,
    });
  });
});
