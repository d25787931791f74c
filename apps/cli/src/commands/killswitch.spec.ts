import { EXIT } from '../exit-codes';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const U = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const EXE = `exe_${U}`;
const AGENT = `agt_${U}-0-1`;
const ORDER = `ord_${U}`;
const LATCH_ID = `lat_${U}`;
const WORKER = `wrk_${U}`;
const GPU = { type: 'pool', pool: 'gpu' };
const LATCH = {
  id: LATCH_ID,
  kind: 'latch',
  scope: GPU,
  by: 'api',
  engagedAt: Date.UTC(2026, 10, 21, 2, 30, 1),
  note: 'bad\ndriver\u001b[2J',
  orderId: ORDER,
};
const FREEZE = { ...LATCH, kind: 'freeze', scope: { type: 'all' } };
const receiptOf = (kind: string, scope: unknown, more = {}): Record<string, unknown> => ({
  orderId: ORDER,
  order: { id: ORDER, kind, scope, mode: 'graceful', reason: 'killswitch', by: 'api', placedAt: 0 },
  state: 'complete',
  complete: true,
  totals: {
    total: 0,
    killed: 0,
    frozen: 0,
    thawed: 0,
    alreadyEnded: 0,
    failed: 0,
    unconfirmed: 0,
    pending: 0,
  },
  targets: [],
  missing: [],
  ...more,
});
const PAUSED = {
  id: EXE,
  name: 'nightly',
  state: 'paused',
  frozen: true,
  live: 1,
  deadlineLeftMs: 90_000,
  labels: {},
  costUsd: 0,
  nodes: { total: 1 },
};
const target = (n: number): Record<string, string> => ({
  agentId: `agt_${U}-${n}-1`,
  executionId: EXE,
  nodeId: 'a',
  workerId: WORKER,
});
const HOLDS = `latch ${LATCH_ID} covers pool gpu: nothing starts until it is released\nrelease it with: belay release ${LATCH_ID} --note "why"\n`;

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

describe('a scope', () => {
  it.each([
    [['-l', ' '], '--selector is empty, which would cover everything. For that give --all.'],
    [['--selector', 'a~b'], '--selector has "a~b", which is none of key=value'],
    [['--pool', 'a b'], '--pool must be the name of a pool, 1 to 64 of the characters'],
    [['--worker', EXE], `"${EXE}" is the id of an execution, not of a worker`],
    [['--pool', 'gpu', '--all'], 'Name exactly one scope: --all, --pool, --selector'],
  ])('%j is refused before anything is asked', async (args, why) => {
    for (const command of ['kill', 'latch', 'freeze']) {
      const ran = await belay([command, ...args]);
      expect(ran).toMatchObject({ code: EXIT.usage, out: '' });
      expect(ran.err).toContain(why);
    }
    expect(asked).toEqual([]);
  });

  it('is posted as it was given', async () => {
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('kill', GPU)];
    await belay(['kill', '-l', 'team=data,env!=prod', '--no-latch', '--json']);
    await belay(['kill', '--pool', 'gpu', '--json', '--note', 'why']);
    expect(asked).toEqual([
      'POST /api/killswitch?wait=0 {"scope":{"type":"selector","selector":"team=data,env!=prod"},"latch":false}',
      'POST /api/killswitch?wait=0 {"scope":{"type":"pool","pool":"gpu"},"note":"why"}',
    ]);
  });
});

describe('labels or a pool that nothing has', () => {
  const scope = { type: 'selector', selector: 'team=dataa' };
  const message = 'No agent and no execution has labels that meet team=dataa. Did you mean team=data?';
  const warning = { code: 'NOTHING_MATCHED', message, suggestion: 'team=data' };
  const err = `warning: ${message}\n`;
  beforeEach(() => {
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('kill', scope, { latch: LATCH, warning })];
    routes['POST /api/killswitch?dryRun=1'] = [200, { targets: [], executions: [], warning }];
    routes['POST /api/latches'] = [201, { ...LATCH, warning }];
    routes[`GET /api/killswitch/${ORDER}`] = [200, receiptOf('kill', scope, { warning })];
  });

  it.each([
    ['kill', '-l', 'team=dataa'],
    ['kill', '-l', 'team=dataa', '--no-wait'],
    ['kill', '-l', 'team=dataa', '--dry-run'],
    ['latch', '-l', 'team=dataa'],
    ['latch', '-l', 'team=dataa', '--dry-run'],
    ['freeze', '-l', 'team=dataa'],
    ['freeze', '-l', 'team=dataa', '--dry-run'],
    ['kill', '--pool', 'gup', '--yes'],
    ['kill', '--pool', 'gup', '--dry-run'],
    ['latch', '--pool', 'gup'],
    ['freeze', '--pool', 'gup'],
    ['receipt', ORDER],
  ])('%s %s %s %s: a warning says what may be meant, with an exit code of its own', async (...args) => {
    const given = args.filter((arg) => arg !== undefined);
    expect(await belay(given)).toMatchObject({ code: EXIT.unmatched, err });
    const json = await belay([...given, '--json']);
    expect(json).toMatchObject({ code: EXIT.unmatched, err: '' });
    expect(JSON.parse(json.out)).toMatchObject({ warning });
  });

  it('are not told of a receipt that is incomplete: proof comes first', async () => {
    routes[`GET /api/killswitch/${ORDER}`] = [200, receiptOf('kill', scope, { complete: false, warning })];
    expect((await belay(['receipt', ORDER])).code).toBe(EXIT.unconfirmed);
  });
});

describe('kill', () => {
  it('names the latch and the command that releases it', async () => {
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('kill', GPU, { latch: LATCH })];
    const { out } = await belay(['kill', '--pool', 'gpu']);
    expect(out.endsWith(`complete: nothing was running in scope\n${HOLDS}`)).toBe(true);
    routes['POST /api/killswitch?wait=0'] = [202, receiptOf('kill', GPU, { latch: LATCH })];
    expect((await belay(['kill', '--pool', 'gpu', '--no-wait'])).out).toBe(
      `order ${ORDER} is durable. Its evidence: belay receipt ${ORDER}\n${HOLDS}`,
    );
  });

  it('says in a dry run whether a latch would be engaged', async () => {
    routes['POST /api/killswitch?dryRun=1'] = [200, { targets: [target(0)], executions: [] }];
    expect((await belay(['kill', '--pool', 'gpu', '--dry-run'])).out).toBe(
      'killing pool gpu would hit 1 agent on 1 worker\n' +
        `  a  ${AGENT} on ${WORKER}\n` +
        'a latch would be engaged over pool gpu: nothing would start in it until it is released\n' +
        'nothing was killed: this was a dry run\n',
    );
    const without = await belay(['kill', '--pool', 'gpu', '--dry-run', '--no-latch']);
    expect(without.out).toContain('no latch would be engaged: new agents could start\n');
    const json = await belay(['kill', '--pool', 'gpu', '--dry-run', '--json']);
    expect(JSON.parse(json.out)).toMatchObject({ latch: true, executions: [] });
  });

  it.each([
    [
      'stop',
      (id: string) => `${id} stops as a whole: its onFailure is stop, and a killed node is not tried again\n`,
    ],
    [
      'continue',
      (id: string) =>
        `${id} goes on without the killed nodes and those that depend on them: its onFailure is continue\n`,
    ],
  ])('of one agent shows the consequences for its execution with onFailure %s', async (onFailure, line) => {
    const one = target(0);
    const executionId = EXE;
    const scope = { type: 'agent', agentId: AGENT };
    const hits = { targets: [{ ...one, outcome: 'killed' }], executions: [] };
    routes[`GET /api/executions/${executionId}`] = [200, { id: executionId, onFailure }];
    routes['POST /api/killswitch?dryRun=1'] = [200, hits];
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('kill', scope, hits)];
    expect((await belay(['kill', '--agent', AGENT, '--dry-run'])).out).toContain(line(executionId));
    expect((await belay(['kill', '--agent', AGENT])).out).toContain(line(executionId));
    // The execution has ended, or is stopped as a whole: nothing is to be added.
    const ended = { ...hits, targets: [{ ...one, outcome: 'already-ended' }] };
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('kill', scope, ended)];
    expect((await belay(['kill', '--agent', AGENT])).out).not.toContain('onFailure');
    routes['POST /api/killswitch?dryRun=1'] = [200, { ...hits, executions: [executionId] }];
    expect((await belay(['kill', '-l', 'a=b', '--dry-run'])).out).not.toContain('onFailure');
  });

  it('asks on a terminal where a pool, labels or a worker cover more than one agent, and accepts a yes', async () => {
    const plan = (n: number) => ({ targets: [0, 1, 2].slice(0, n).map(target), executions: [] });
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('kill', GPU)];
    routes['POST /api/killswitch?dryRun=1'] = [200, plan(3)];
    const no = await belay(['kill', '--pool', 'gpu'], { isTTY: true, answers: ['y'] });
    expect(no).toMatchObject({ code: EXIT.interrupted, out: '' });
    expect(no.err).toBe(
      'This kills 3 agents of 1 execution in pool gpu, and nothing starts there until the latch is released. ' +
        'Type "yes" to go on: Nothing was killed.\n',
    );
    const kills = (): number =>
      asked.filter((call) => call.startsWith('POST /api/killswitch?wait=0 {')).length;
    expect(kills()).toBe(0);
    await belay(['kill', '--worker', WORKER], { isTTY: true, answers: ['yes'] });
    expect(kills()).toBe(1);
    await belay(['kill', '--pool', 'gpu', '--yes'], { isTTY: true });
    expect(kills()).toBe(2);
    // One agent, or a script that has named its scope: no question is asked.
    routes['POST /api/killswitch?dryRun=1'] = [200, plan(1)];
    await belay(['kill', '--pool', 'gpu'], { isTTY: true });
    await belay(['kill', '--pool', 'gpu']);
    await belay(['kill', '--agent', AGENT], { isTTY: true });
    expect(kills()).toBe(5);
  });
});

describe('latches', () => {
  it('are engaged without a kill', async () => {
    routes['POST /api/latches'] = [201, LATCH];
    expect(await belay(['latch', '--pool', 'gpu', '--note', 'why'])).toMatchObject({ code: 0, out: HOLDS });
    expect(asked[0]).toBe('POST /api/latches {"scope":{"type":"pool","pool":"gpu"},"note":"why"}');
    routes['POST /api/killswitch?dryRun=1'] = [200, { targets: [target(0)], executions: [] }];
    expect((await belay(['latch', '--pool', 'gpu', '--dry-run'])).out).toBe(
      'a latch would be engaged over pool gpu: nothing would start in it until it is released\n' +
        '1 agent running in it now would go on\n' +
        'nothing was latched: this was a dry run\n',
    );
  });

  it('R65 may need two people: engaged, listed, approved by the first and released by the second', async () => {
    const two = { ...LATCH, releaseNeeds: 2, note: 'why' };
    routes['POST /api/latches'] = [201, two];
    const needs = 'its release needs 2 people';
    expect((await belay(['latch', '--pool', 'gpu', '--release-needs', '2'])).out).toBe(`${HOLDS}${needs}\n`);
    expect(asked[0]).toBe('POST /api/latches {"scope":{"type":"pool","pool":"gpu"},"releaseNeeds":2}');
    routes['POST /api/killswitch?wait=0'] = [202, receiptOf('kill', GPU, { latch: two })];
    await belay(['kill', '--pool', 'gpu', '--yes', '--release-needs', '2']);
    expect(asked.at(-1)).toContain('"releaseNeeds":2');
    const approval = { by: 'ann', note: 'mended', at: Date.now(), expiresAt: Date.UTC(2126, 0, 1) };
    const until = '2126-01-01 00:00:00Z';
    const expired = { ...two, approval: { ...approval, expiresAt: 1_000 } };
    routes['GET /api/latches'] = [200, { items: [two, { ...two, approval }, expired] }];
    const rows = (await belay(['latches'])).out.split('\n').slice(1, 4);
    expect(rows.map((row) => row.split('01Z  ')[1])).toEqual([
      `${needs}: why`,
      `${needs}: ann has approved until ${until}: why`,
      `${needs}: why`,
    ]);
    const pending = { needs: 1, approvedBy: 'ann', expiresAt: approval.expiresAt };
    const release = ['release', LATCH_ID, '--note', 'mended'];
    routes[`POST /api/latches/${LATCH_ID}/release`] = [202, { latch: two, already: false, pending }];
    const first =
      `ann has approved the release of latch ${LATCH_ID}: 1 of 2 people\n` +
      `it stays engaged until a person with another token releases it before ${until}: belay release ${LATCH_ID} --note "why"\n`;
    expect(await belay(release)).toMatchObject({ code: EXIT.unconfirmed, out: first });
    routes[`POST /api/latches/${LATCH_ID}/release`] = [202, { latch: two, already: true, pending }];
    const again = await belay(release);
    expect(again.code).toBe(EXIT.unconfirmed);
    expect(again.out).toContain(`release of latch ${LATCH_ID} (before this call): 1 of 2 people`);
    expect(JSON.parse((await belay([...release, '--json'])).out)).toMatchObject({ pending });
    routes[`POST /api/latches/${LATCH_ID}/release`] = [200, { latch: two, already: false }];
    expect((await belay(release)).code).toBe(0);
  });

  it('R65 need two people only where a latch is engaged', async () => {
    for (const args of [
      ['latch', '--pool', 'gpu', '--release-needs', '3'],
      ['kill', '--pool', 'gpu', '--yes', '--no-latch', '--release-needs', '2'],
      ['kill', '--agent', AGENT, '--yes', '--release-needs', '2'],
      ['kill', '--pool', 'gpu', '--local', '--release-needs', '2'],
    ])
      expect(await belay(args)).toMatchObject({ code: EXIT.usage });
    expect(asked).toEqual([]);
  });

  it('are listed with freezes, each with its meaning', async () => {
    routes['GET /api/latches'] = [200, { items: [] }];
    expect(await belay(['latches'])).toMatchObject({
      code: 0,
      out: '',
      err: 'Nothing is latched, frozen or paused: every ready node may start.\n',
    });
    routes['GET /api/latches'] = [200, { items: [LATCH, FREEZE] }];
    expect(await belay(['latches'])).toMatchObject({
      out:
        'ID                              KIND    SCOPE       BY   SINCE                 NOTE\n' +
        `${LATCH_ID}  latch   pool gpu    api  2026-11-21 02:30:01Z  bad driver[2J\n` +
        `${LATCH_ID}  freeze  everything  api  2026-11-21 02:30:01Z  bad driver[2J\n`,
      err:
        'A latch lets nothing start in its scope until: belay release ID --note "why"\n' +
        'A freeze also stops running agents where they stand, until: belay thaw ID\n',
    });
    expect(JSON.parse((await belay(['latches', '--json'])).out)).toEqual({ items: [LATCH, FREEZE] });
    const over = (workerId: string): object => ({ ...LATCH, scope: { type: 'worker', workerId } });
    const [living, gone] = [`wrk_${'0'.repeat(26)}`, `wrk_${'1'.repeat(26)}`];
    routes['GET /api/latches'] = [200, { items: [over(living), over(gone)] }];
    routes['GET /api/workers'] = [
      200,
      {
        items: [
          { id: living, state: 'running' },
          { id: gone, state: 'stopped' },
        ],
      },
    ];
    const { out } = await belay(['latches']);
    expect(out.match(/its worker is gone: it covers nothing: bad driver/g)).toHaveLength(1);
  });

  it('are released with a reason, by their id or by their order’s', async () => {
    for (const args of [
      ['release', LATCH_ID],
      ['release', LATCH_ID, '--note', ' '],
    ])
      expect(await belay(args)).toMatchObject({
        code: EXIT.usage,
        err: 'belay: Say why: --note TEXT. A release needs a reason.\n',
      });
    expect((await belay(['release', EXE, '--note', 'x'])).err).toContain('not of a latch');
    expect(asked).toEqual([]);
    routes[`POST /api/latches/${LATCH_ID}/release`] = [200, { latch: LATCH, already: false }];
    routes[`GET /api/killswitch/${ORDER}`] = [
      200,
      receiptOf('kill', GPU, {
        order: { ...(receiptOf('kill', GPU)['order'] as object), latchId: LATCH_ID },
      }),
    ];
    const out = `latch ${LATCH_ID} over pool gpu is released: nodes that waited may start\n`;
    expect(await belay(['release', LATCH_ID, '--note', 'mended'])).toMatchObject({ code: 0, out });
    expect(await belay(['release', ORDER, '--note', 'mended'])).toMatchObject({ code: 0, out });
    expect(asked.at(-1)).toBe(`POST /api/latches/${LATCH_ID}/release {"note":"mended"}`);
    routes[`GET /api/killswitch/${ORDER}`] = [200, receiptOf('kill', GPU)];
    expect(await belay(['release', ORDER, '--note', 'x'])).toMatchObject({ code: EXIT.notFound });
  });

  it('released before are shown with the releaser, the time and the reason', async () => {
    const latch = { ...LATCH, releasedAt: 1_000, releasedBy: 'ann', releaseNote: 'mended' };
    routes[`POST /api/latches/${LATCH_ID}/release`] = [200, { latch, already: true }];
    expect(await belay(['release', LATCH_ID, '--note', 'again'])).toMatchObject({
      code: 0,
      out: `latch ${LATCH_ID} over pool gpu was released by ann at 1970-01-01 00:00:01Z: mended (before this call)\n`,
    });
  });

  it('in the way of a run are told in the server’s words', async () => {
    const detail = `The latch ${LATCH_ID} covers pool/gpu (by api): nothing starts until: belay release`;
    routes[`POST /api/executions/${EXE}/start`] = [423, { code: 'LATCHED', detail }];
    expect(await belay(['start', EXE])).toMatchObject({
      code: EXIT.failed,
      out: '',
      err: `belay: ${detail}\n`,
    });
  });
});

describe('freeze and thaw', () => {
  const all = { type: 'all' };

  it('of a fleet is an order with a freeze that thaw releases', async () => {
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('freeze', all, { latch: FREEZE })];
    expect((await belay(['freeze', '--all', '--note', 'look'])).out).toBe(
      `order ${ORDER}  freeze everything\n` +
        'asked by api at 1970-01-01 00:00:00Z, reason killswitch\n' +
        '0 targets\ncomplete: nothing was running in scope\n' +
        `freeze ${LATCH_ID} covers everything: its agents stand still, nothing starts\n` +
        `thaw it with: belay thaw ${LATCH_ID}\n`,
    );
    expect(asked).toEqual([
      'POST /api/killswitch?wait=0 {"kind":"freeze","scope":{"type":"all"},"note":"look"}',
    ]);
    routes[`GET /api/latches/${LATCH_ID}`] = [200, FREEZE];
    const receipt = receiptOf('thaw', all, { complete: false, state: 'open' });
    routes[`POST /api/latches/${LATCH_ID}/release`] = [200, { latch: FREEZE, already: false, receipt }];
    const thawed = await belay(['thaw', LATCH_ID]);
    expect(asked.at(-1)).toBe(`POST /api/latches/${LATCH_ID}/release {"note":"thawed"}`);
    expect(thawed.code).toBe(EXIT.unconfirmed);
    expect(thawed.out).toContain(
      `freeze ${LATCH_ID} over everything is released: nodes that waited may start\n\norder ${ORDER}  thaw everything\n`,
    );
  });

  it('does not release a latch by thaw', async () => {
    routes[`GET /api/latches/${LATCH_ID}`] = [200, LATCH];
    expect(await belay(['thaw', LATCH_ID])).toMatchObject({
      code: EXIT.usage,
      err: `belay: ${LATCH_ID} is a latch, not a freeze. Release it with: belay release ${LATCH_ID} --note "why"\n`,
    });
    expect((await belay(['thaw', WORKER])).code).toBe(EXIT.usage);
  });

  it('of an execution is its pause and its resume', async () => {
    const receipt = receiptOf('freeze', { type: 'execution', executionId: EXE });
    routes[`POST /api/executions/${EXE}/pause`] = [200, { execution: PAUSED, receipt }];
    const ran = await belay(['freeze', '--execution', EXE, '--note', 'look']);
    expect(asked).toEqual([`POST /api/executions/${EXE}/pause {"mode":"freeze","note":"look"}`]);
    expect(ran).toMatchObject({ code: 0, err: `Resume it: belay resume ${EXE}\n` });
    expect(ran.out.split('\n').slice(0, 4)).toEqual([
      `${EXE}  paused`,
      'paused by freeze: nothing starts, 1 agent stands still; 1 min 30 s left to its deadline',
      '',
      `order ${ORDER}  freeze execution ${EXE}`,
    ]);
    const drained = { ...PAUSED, frozen: undefined, deadlineLeftMs: undefined };
    routes[`POST /api/executions/${EXE}/pause`] = [200, { execution: drained }];
    expect((await belay(['pause', EXE])).out).toBe(
      `${EXE}  paused\npaused by drain: nothing starts, 1 agent may finish\n`,
    );
    expect(asked.at(-1)).toBe(`POST /api/executions/${EXE}/pause {"mode":"drain"}`);
    routes[`POST /api/executions/${EXE}/resume`] = [200, { execution: { ...PAUSED, state: 'running' } }];
    for (const command of ['resume', 'thaw'])
      expect(await belay([command, EXE])).toMatchObject({ code: 0, out: `${EXE}  running\n` });
    expect((await belay(['pause', EXE, '--mode', 'hold'])).code).toBe(EXIT.usage);
  });

  it('of an agent are orders of their own', async () => {
    routes['POST /api/killswitch?wait=0'] = [200, receiptOf('freeze', { type: 'agent', agentId: AGENT })];
    expect((await belay(['freeze', '--agent', AGENT])).err).toBe(`Thaw it: belay thaw ${AGENT}\n`);
    await belay(['thaw', AGENT]);
    expect(asked).toEqual(
      ['freeze', 'thaw'].map(
        (kind) =>
          `POST /api/killswitch?wait=0 {"kind":"${kind}","scope":{"type":"agent","agentId":"${AGENT}"}}`,
      ),
    );
  });

  it('shows in ps and get', async () => {
    const path = 'GET /api/executions?state=idle%2Crunning%2Cpaused%2Cstopping&limit=200';
    const execution = { ...PAUSED, startedAt: 1, createdAt: 1, nodes: { total: 1, running: 1 } };
    routes[path] = [200, { items: [execution] }];
    expect((await belay(['ps'])).out).toMatch(/nightly +frozen /);
    routes[`GET /api/executions/${EXE}`] = [200, execution];
    routes[`GET /api/executions/${EXE}/nodes?limit=200`] = [200, { items: [] }];
    routes[`GET /api/agents?executionId=${EXE}&limit=200`] = [200, { items: [] }];
    const { out } = await belay(['get', EXE]);
    expect(out).toContain(`${EXE}  nightly  frozen\n`);
    expect(out).toContain('1 agent stands still; 1 min 30 s left to its deadline\n');
    routes[`GET /api/latches/${LATCH_ID}`] = [200, LATCH];
    expect((await belay(['get', LATCH_ID])).out).toBe(
      `${HOLDS}engaged by api at 2026-11-21 02:30:01Z: bad driver[2J\nwith order ${ORDER}\n`,
    );
  });

  it('get says why ready nodes do not start', async () => {
    const nodes = [{ id: 'a', index: 0, state: 'ready', attempt: 1 }];
    const execution = { ...PAUSED, state: 'running', nodes: { total: 1, ready: 1 } };
    routes[`GET /api/executions/${EXE}`] = [200, execution];
    routes[`GET /api/executions/${EXE}/nodes?limit=200`] = [200, { items: nodes }];
    routes[`GET /api/agents?executionId=${EXE}&limit=200`] = [200, { items: [] }];
    routes['GET /api/workers'] = [200, { items: [{ id: WORKER, state: 'running', pools: ['gpu'] }] }];
    routes['GET /api/latches'] = [200, { items: [FREEZE] }];
    expect((await belay(['get', EXE])).out).toContain(`\n1 node ready: freeze ${LATCH_ID} covers it\n`);
    expect(JSON.parse((await belay(['get', EXE, '--json'])).out)).toMatchObject({
      waiting: [{ nodes: 1, why: 'latch', latchId: LATCH_ID, kind: 'freeze' }],
    });
  });
});

describe('close', () => {
  const missing = [{ agentId: AGENT, workerId: WORKER }];
  const closed = { at: 1_000, by: 'api', note: 'the host burnt down' };

  it('needs a reason, and shows the targets that stay unconfirmed', async () => {
    expect(await belay(['close', ORDER])).toMatchObject({ code: EXIT.usage });
    expect((await belay(['close', LATCH_ID, '--note', 'x'])).code).toBe(EXIT.usage);
    expect(asked).toEqual([]);
    const receipt = receiptOf('kill', GPU, { complete: false, state: 'incomplete', missing, closed });
    routes[`POST /api/killswitch/${ORDER}/close`] = [200, receipt];
    const ran = await belay(['close', ORDER, '--note', closed.note]);
    expect(ran).toMatchObject({ code: 0, err: '' });
    expect(ran.out).toContain(
      `incomplete: 1 target not confirmed: 1 on ${WORKER}\n` +
        'closed by api at 1970-01-01 00:00:01Z: the host burnt down\nBelay stopped trying.\n',
    );
    expect((await belay(['close', ORDER, '--note', 'other'])).err).toBe(
      'It was closed before; the first note is kept.\n',
    );
    routes[`POST /api/killswitch/${ORDER}/close`] = [200, receiptOf('kill', GPU)];
    expect((await belay(['close', ORDER, '--note', 'x'])).err).toBe('There was nothing to close.\n');
  });
});

describe('audit', () => {
  const entry = (n: number, more: object): object => ({ id: `${n}-0`, n, at: 1_000 * n, hash: 'h', ...more });

  it('lists acts, newest first', async () => {
    routes['GET /api/audit?limit=2'] = [
      200,
      {
        items: [
          entry(3, { act: 'order.complete', orderId: ORDER, outcomes: { killed: 2 } }),
          entry(2, {
            act: 'order.open',
            by: 'api',
            kind: 'kill',
            scope: GPU,
            orderId: ORDER,
            latchId: LATCH_ID,
            note: 'bad\ndriver',
          }),
        ],
      },
    ];
    expect((await belay(['audit', '--limit', '2'])).out).toBe(
      'N  TIME                  ACT             BY   WHAT           ORDER OR LATCH                  NOTE\n' +
        `3  1970-01-01 00:00:03Z  order.complete  -    -              ${ORDER}  2 killed\n` +
        `2  1970-01-01 00:00:02Z  order.open      api  kill pool gpu  ${ORDER}  with ${LATCH_ID}: bad driver\n`,
    );
    const worker = `wrk_${'0'.repeat(26)}`;
    routes['GET /api/audit?limit=3'] = [
      200,
      {
        items: [
          entry(5, { act: 'drill.failed', by: 'api', workerId: worker, note: 'no' }),
          entry(4, { act: 'order.joined', by: 'api', kind: 'kill', orderId: ORDER }),
          entry(2, { act: 'order.open', by: 'api', kind: 'kill', scope: GPU, orderId: ORDER }),
        ],
      },
    ];
    const { out } = await belay(['audit', '--limit', '3']);
    expect(out).toMatch(new RegExp(`^5 .* drill\\.failed +api +worker ${worker} +-`, 'm'));
    expect(out).toMatch(/^4 .* order\.joined +api +kill pool gpu +ord_/m);
    routes['GET /api/audit'] = [200, { items: [] }];
    expect(await belay(['audit'])).toMatchObject({ code: 0, out: '' });
    expect((await belay(['audit', 'verfy'])).err).toContain('Allowed choices are verify.');
    expect((await belay(['audit', 'verify', '--limit', '3'])).code).toBe(EXIT.usage);
  });

  it('verify prints the head, and ends with 1 where something was changed', async () => {
    const verdict = { entries: 3, receipts: 1, head: 'abc', intact: true, faults: [] };
    routes['GET /api/audit/verify'] = [200, verdict];
    const head =
      'head abc\nKeep this hash elsewhere: a person who rewrites the whole log cannot make it contain this hash.\n';
    expect(await belay(['audit', 'verify'])).toMatchObject({
      code: 0,
      out: `intact: 3 entries and 1 receipt are unchanged\n${head}`,
    });
    const faults = [{ id: '2-0', fault: 'entry 2 does not follow from the one before it' }];
    routes['GET /api/audit/verify'] = [200, { ...verdict, intact: false, faults }];
    expect(await belay(['audit', 'verify'])).toMatchObject({
      code: EXIT.failed,
      out: `changed: 1 fault in 3 entries and 1 receipt\n  2-0  ${faults[0]?.fault}\nhead abc\n`,
    });
    expect((await belay(['audit', 'verify', '--json'])).code).toBe(EXIT.failed);
  });
});
