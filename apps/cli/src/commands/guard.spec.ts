import { checkArmed, checkDrills } from '../doctor/check-killswitch';
import { describeLost } from '../doctor/check-orchestrator';
import { describeOrders } from '../doctor/check-orders';
import { describeLook, describeMoving } from '../doctor/check-server';
import { EXIT } from '../exit-codes';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const A = 'wrk_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const B = 'wrk_01ARZ3NDEKTSV4RRFFQ69G5FAW';
const ORDER = 'ord_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const AT = Date.UTC(2026, 10, 21, 2, 30, 1);
const ARMED = {
  workerId: A,
  armed: true,
  afterMs: 12,
  containment: 'cgroup',
  guardian: true,
  running: 3,
} as const;
const DEAF = { workerId: B, armed: false, detail: 'no answer within 2000 ms' } as const;
const PASSED = {
  workerId: A,
  host: 'host\u001b[2J-7',
  at: AT,
  by: 'api',
  passed: true,
  orderId: ORDER,
  tookMs: 240,
  canaries: [
    { name: 'deaf', outcome: 'killed', escalated: true, provedMs: 230.4 },
    { name: 'frozen', outcome: 'killed', escalated: false, provedMs: 27 },
  ],
} as const;
const FAILED = {
  ...PASSED,
  workerId: B,
  passed: false,
  detail: `Not proved killed: deaf unconfirmed. See order ${ORDER}.`,
  canaries: [
    { name: 'deaf', outcome: 'unconfirmed' },
    { name: 'frozen', outcome: 'not-started' },
  ],
} as const;
const LATCHED = {
  ...FAILED,
  orderId: undefined,
  detail: 'The start of every canary took too long.',
  canaries: [],
};
const RECEIPT = {
  targets: [
    { nodeId: 'deaf', latency: { signalledMs: 8.2 } },
    { nodeId: 'frozen', latency: { signalledMs: 9 } },
  ],
};

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

describe('armed', () => {
  it('has one line for each worker, and advice below each that is not armed', async () => {
    const guardless = { ...ARMED, armed: false, guardian: false, detail: 'its guardian does not run' };
    const workers = [ARMED, DEAF, guardless];
    routes['POST /api/killswitch/armed'] = [200, { armed: false, nonce: 'n', workers }];
    expect(await belay(['armed'])).toMatchObject({
      code: EXIT.failed,
      err: '',
      out:
        `armed       ${A}  answered after 12 ms, cgroup, 3 agents\n` +
        `not armed   ${B}  no answer within 2000 ms\n` +
        `            → check its machine; to end its agents there, without the server: belay kill --local --worker ${B}\n` +
        `not armed   ${A}  its guardian does not run, answered after 12 ms, cgroup, 3 agents\n` +
        '            → its worker starts another guardian: ask again, and restart the worker if this stays\n' +
        '3 workers: 1 armed, 2 not\n',
    });
  });

  it('is 0 only when there are workers and all are', async () => {
    routes['POST /api/killswitch/armed'] = [200, { armed: true, nonce: 'n', workers: [ARMED] }];
    expect((await belay(['armed'])).code).toBe(EXIT.ok);
    const none = { armed: false, nonce: 'n', workers: [] };
    routes['POST /api/killswitch/armed'] = [200, none];
    expect(await belay(['armed'])).toMatchObject({
      code: EXIT.failed,
      out: '',
      err: 'No worker runs. Start one with: belay up, or belay worker\n',
    });
    const json = await belay(['armed', '--json']);
    expect([json.code, JSON.parse(json.out)]).toEqual([EXIT.failed, none]);
  });
});

describe('drill', () => {
  const passed =
    `passed  ${A} on host[2J-7: asked to signalled 9 ms, asked to proved 230 ms\n` +
    '        deaf         killed, signalled +8 ms, proved +230 ms, needed SIGKILL\n' +
    '        frozen       killed, signalled +9 ms, proved +27 ms\n';

  it('shows the times of every tree, why a drill did not pass, and advice', async () => {
    routes[`GET /api/killswitch/${ORDER}`] = [200, RECEIPT];
    routes['POST /api/killswitch/drill'] = [200, { passed: false, items: [PASSED, LATCHED] }];
    expect(await belay(['drill'])).toMatchObject({
      code: EXIT.failed,
      err: '',
      out:
        passed +
        `failed  ${B} on host[2J-7\n` +
        '        The start of every canary took too long.\n' +
        `        → see what keeps its trees from starting: belay armed, belay latches, belay workers; then: belay drill --worker ${B}\n` +
        '2 workers: 1 passed, 1 failed\n',
    });
    expect(asked[0]).toBe('POST /api/killswitch/drill {}');
  });

  it('is for one worker with --worker, and names the receipt of an unproved end', async () => {
    routes['POST /api/killswitch/drill'] = [200, { passed: false, items: [FAILED] }];
    // The receipt is no longer kept, so its times are left out.
    const { code, out } = await belay(['drill', '--worker', B]);
    expect(asked[0]).toBe(`POST /api/killswitch/drill {"workerId":"${B}"}`);
    expect(code).toBe(EXIT.failed);
    expect(out).toContain('        deaf         unconfirmed\n        frozen       not started\n');
    expect(out).toContain(
      `        → see the evidence: belay receipt ${ORDER}; whether it could stop now: belay armed; then: belay drill --worker ${B}\n`,
    );
    expect((await belay(['drill', '--worker', ORDER])).code).toBe(EXIT.usage);
  });

  it('--hostile shows the outcome of each attack; --last shows the stored hostile drill', async () => {
    const { detail: _, ...failed } = { ...FAILED, canaries: [{ name: 'hostile', outcome: 'killed' }] };
    const attacks = [
      { name: 'read-secrets', outcome: 'named', detail: 'token' },
      { name: 'read-memory', outcome: 'broken', detail: 'worker' },
      { name: 'leave:unmarked', outcome: 'refused' },
    ];
    const item = { ...failed, detail: 'Not refused: read-memory.', attacks };
    routes['POST /api/killswitch/drill'] = [200, { passed: false, items: [item] }];
    const { code, out } = await belay(['drill', '--hostile', '--worker', B]);
    expect(asked[0]).toBe(`POST /api/killswitch/drill {"workerId":"${B}","hostile":true}`);
    expect(code).toBe(EXIT.failed);
    const table =
      '        read-secrets         named: token\n' +
      '        read-memory          broken: worker\n' +
      '        leave:unmarked       refused\n' +
      "        named: possible for agents of the worker's own user, see docs/isolation.md\n" +
      '        Not refused: read-memory.\n' +
      `        → see what an agent can reach: docs/isolation.md; then: belay drill --hostile --worker ${B}\n`;
    expect(out).toContain(table);
    const status = { workerId: B, overdue: true, last: PASSED, hostile: item };
    routes['GET /api/killswitch/drill'] = [200, { items: [status, { workerId: A, overdue: false }] }];
    const kept = await belay(['drill', '--hostile', '--last']);
    expect(kept.out).toContain(table);
    expect(kept.out).toContain(`never   ${A}\n        → belay drill --hostile --worker ${A}\n`);
    expect(kept.out).not.toContain('too old');
    expect(kept.code).toBe(EXIT.failed);
  });

  it('without any worker does not pass; a drill without an answer goes on', async () => {
    routes['POST /api/killswitch/drill'] = [200, { passed: false, items: [] }];
    expect(await belay(['drill'])).toMatchObject({
      code: EXIT.failed,
      out: '',
      err: 'No worker runs. Start one with: belay up, or belay worker\n',
    });
    routes['POST /api/killswitch/drill'] = [504, { code: 'TIMEOUT', detail: 'No answer yet.' }];
    expect(await belay(['drill'])).toMatchObject({ code: EXIT.unconfirmed, err: 'belay: No answer yet.\n' });
  });

  it('adds the time to the signal under --json', async () => {
    routes[`GET /api/killswitch/${ORDER}`] = [200, RECEIPT];
    routes['POST /api/killswitch/drill'] = [200, { passed: true, items: [PASSED] }];
    const { code, out } = await belay(['drill', '--json']);
    expect(code).toBe(EXIT.ok);
    expect(JSON.parse(out)).toMatchObject({
      passed: true,
      items: [{ canaries: [{ signalledMs: 8.2 }, {}] }],
    });
  });

  it('--last shows the stored results and starts nothing', async () => {
    routes[`GET /api/killswitch/${ORDER}`] = [200, RECEIPT];
    routes['GET /api/killswitch/drill'] = [
      200,
      {
        items: [
          { workerId: A, overdue: true, last: PASSED },
          { workerId: B, overdue: false },
        ],
      },
    ];
    expect(await belay(['drill', '--last'])).toMatchObject({
      code: EXIT.failed,
      out:
        passed +
        '        at 2026-11-21 02:30:01Z by api\n' +
        '        its last pass is too old\n' +
        `        → belay drill --worker ${A}\n` +
        `never   ${B}\n` +
        `        → belay drill --worker ${B}\n`,
    });
    expect(asked.every((call) => call.startsWith('GET '))).toBe(true);
    routes['GET /api/killswitch/drill'] = [200, { items: [{ workerId: A, overdue: false, last: PASSED }] }];
    expect((await belay(['drill', '--last'])).code).toBe(EXIT.ok);
    expect((await belay(['drill', '--last', '--worker', A])).code).toBe(EXIT.ok);
    expect(await belay(['drill', '--last', '--worker', B])).toMatchObject({
      code: EXIT.notFound,
      err: `belay: ${B} is not a running worker. List them with: belay workers\n`,
    });
  });
});

describe('doctor', () => {
  it('names orders without proof, and workers that were lost', () => {
    const order = { kind: 'kill', scope: { type: 'all' }, placedAt: AT };
    const missing = [
      { agentId: 'a', workerId: A },
      { agentId: 'b', workerId: A },
    ];
    const receipt = { orderId: ORDER, order, state: 'incomplete', complete: false, missing };
    const closed = { ...receipt, closed: { at: AT, by: 'api', note: 'gone' } };
    expect(describeOrders({ items: [receipt, closed] } as never, AT + 60_000)).toEqual([
      {
        name: 'orders',
        result: 'warn',
        message: `${ORDER} is incomplete: 2 targets not confirmed on ${A} (kill everything, asked 1 min 0 s ago)`,
        advice: `belay receipt ${ORDER}`,
      },
    ]);
    expect(describeOrders({ items: [closed, { ...receipt, complete: true }] } as never, AT)).toEqual([
      { name: 'orders', result: 'ok', message: 'all proved' },
    ]);
    const lost = { id: A, host: 'h', state: 'stopped', reason: 'worker_lost', stoppedAt: AT };
    expect(describeLost([lost] as never, AT + 60_000)).toMatchObject([
      { result: 'warn', message: `${A} on h was lost 1 min 0 s ago: its lease ran out` },
    ]);
    const many = describeLost(Array.from({ length: 7 }, () => lost) as never, AT);
    expect(many).toHaveLength(6);
    expect(many[5]?.message).toBe('2 further workers lost within the last hour');
  });

  it('asks the local server, and gives advice about one that is gone', () => {
    const at = { url: 'unix:///d/valkey.sock', pid: 5 };
    expect(describeLook({ state: 'none' })).toBeUndefined();
    expect(
      describeLook({ ...at, state: 'answers', version: { name: 'valkey', version: '8.0.1' } }),
    ).toMatchObject({ result: 'ok', message: 'valkey 8.0.1 answers at unix:///d/valkey.sock (pid 5)' });
    expect(describeLook({ ...at, state: 'gone', why: 'its process is gone', ownerPid: 4 })).toEqual({
      name: 'state server',
      result: 'fail',
      message: 'the local server (pid 5) does not answer at unix:///d/valkey.sock: its process is gone',
      advice: 'process 4 starts it again; if it does not: end that process with Ctrl-C, then belay up',
    });
    const why = 'it answers PING with: MISCONF Errors writing to the AOF file: No space left on device';
    expect(describeLook({ ...at, state: 'silent', why, ownerPid: 4 }, '/d')).toEqual({
      name: 'state server',
      result: 'fail',
      message:
        'the local server (pid 5) takes no writes at unix:///d/valkey.sock: ' +
        'MISCONF Errors writing to the AOF file: No space left on device',
      advice: 'free space on the disk of /d/valkey: the server goes on by itself',
    });
    expect(describeLook({ ...at, state: 'silent', why: 'no answer' })?.advice).toBe(
      'end pid 5, then: belay up',
    );
  });

  it('names the slots of a Cluster that move, and the calls that wait for them', () => {
    expect(describeMoving('valkey 8.0.1 at c', [5, 9])).toMatchObject({
      result: 'warn',
      message: 'valkey 8.0.1 at c; moving to another node: slot 5, 9',
    });
    const many = Array.from({ length: 12 }, (_, i) => i);
    expect(describeMoving('c', many).message).toMatch(/ 9 and 2 more$/);
  });

  it('says that the state is away, and not that no worker runs', async () => {
    routes['GET /health'] = [200, { state: 'running' }];
    routes['GET /api/workers'] = [503, { code: 'SERVER_UNREACHABLE', detail: 'The Valkey server is away.' }];
    const { out } = await belay(['doctor']);
    expect(out).toMatch(/^ok +orchestrator +running/m);
    expect(out).toMatch(
      /^fail +state +the orchestrator cannot tell what runs: The Valkey server is away\.$/m,
    );
    expect(out).toContain('on each machine: belay kill --local');
    expect(out).not.toContain('unknown until a worker runs');
  });

  it('says that all are armed, or which is not', () => {
    expect(checkArmed({ armed: true, nonce: 'n', workers: [ARMED] })).toEqual([
      { name: 'armed', result: 'ok', message: '1 worker answered within 12 ms' },
    ]);
    expect(checkArmed({ armed: false, nonce: 'n', workers: [ARMED, DEAF] })).toEqual([
      {
        name: 'armed',
        result: 'fail',
        message: `${B} is not armed: no answer within 2000 ms`,
        advice: `check its machine; to end its agents there, without the server: belay kill --local --worker ${B}`,
      },
    ]);
    expect(checkArmed({ armed: false, nonce: 'n', workers: [] })).toEqual([]);
  });

  it('warns of a worker without a recent pass and names the drill', () => {
    const hour = 3_600_000;
    const of = (last: object | undefined, overdue = false, now = AT + hour) =>
      checkDrills([{ workerId: A, overdue, ...(last === undefined ? {} : { last: last as never }) }], now);
    expect(of(PASSED)).toEqual([
      { name: 'drill', result: 'ok', message: '1 worker passed, the oldest 1 h 0 min ago' },
    ]);
    const advice = `belay drill --worker ${A}`;
    const warning = (message: string) => [
      { name: 'drill', result: 'warn', message: `${A} ${message}`, advice },
    ];
    expect(of(undefined)).toEqual(warning('has passed no drill yet'));
    expect(of(FAILED)).toEqual(warning(`failed its last drill 1 h 0 min ago: ${FAILED.detail}`));
    expect(of(PASSED, true)).toEqual(warning('passed its last drill 1 h 0 min ago'));
    expect(of(PASSED, false, AT + 49 * hour)).toEqual(warning('passed its last drill 2 d 1 h ago'));
    expect(checkDrills([], AT)).toEqual([]);
  });

  it('goes on where an orchestrator cannot say', async () => {
    routes['GET /health'] = [200, { state: 'running' }];
    routes['GET /api/workers'] = [200, { items: [] }];
    routes['GET /api/latches'] = [200, { items: [] }];
    routes['POST /api/killswitch/armed'] = [200, { armed: true, nonce: 'n', workers: [ARMED] }];
    const { out } = await belay(['doctor']);
    expect(out).toMatch(/^ok +armed +1 worker answered within 12 ms$/m);
    expect(out).toMatch(/^warn +drill +not known: No route GET \/api\/killswitch\/drill\.$/m);
    expect(out).toMatch(/^ok +latches /m);
  });
});
