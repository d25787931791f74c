import { readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Command } from 'commander';
import { EXIT } from './exit-codes';
import { buildProgram, runCli } from './program';
import { OutcomeUnknownError } from '#libs/contracts';
import { nativeState } from '#libs/spawner';
import { scriptedProcess } from '../../../test/support/scripted-process';
import { COMMANDS, keepFlags } from './session/keep-flags';
import type { Routes, ScriptedServer } from '../../../test/support/scripted-server';
import { useScriptedServer } from '../../../test/support/scripted-server';

const U = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
const EXE = `exe_${U}`;
const COUNTS = {
  total: 2,
  pending: 0,
  ready: 0,
  running: 1,
  suspended: 0,
  completed: 1,
  failed: 0,
  skipped: 0,
  cancelled: 0,
};
const RECORD = {
  id: EXE,
  name: 'nightly',
  state: 'running',
  version: 1,
  epoch: 1,
  labels: {},
  onFailure: 'stop',
  createdAt: 1,
  costUsd: 0,
  nodes: COUNTS,
  live: 1,
};
const RECEIPT = {
  orderId: `ord_${U}`,
  order: {
    id: `ord_${U}`,
    kind: 'kill',
    scope: { type: 'all' },
    mode: 'graceful',
    reason: 'killswitch',
    by: 'api',
    placedAt: 0,
  },
  state: 'complete',
  complete: true,
  totals: { total: 0, killed: 0, alreadyEnded: 0, failed: 0, unconfirmed: 0, pending: 0 },
  targets: [],
  missing: [],
};
const INCOMPLETE = {
  ...RECEIPT,
  complete: false,
  missing: [{ agentId: `agt_${U}-0-1`, workerId: `wrk_${U}` }],
};

let fake: ScriptedServer;
let cwd: string;
let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ cwd, asked, routes, belay } = fake = server));

const sse =
  (...events: unknown[]) =>
  (response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const frames = events.map(
      (event, n) => `id: 1-${n + 1}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`,
    );
    response.end(`event: ready\ndata: {}\n\n${frames.join('')}event: end\ndata: {}\n\n`);
  };

describe('usage', () => {
  it('suggests the nearest command and option, with exit code 2', async () => {
    const command = await belay(['kil']);
    expect(command).toMatchObject({ code: EXIT.usage, out: '' });
    expect(command.err).toContain("belay: unknown command 'kil'\n(Did you mean kill?)");
    expect(command.err).toContain('\nUsage: belay [options] [command]. More: belay --help\n');
    expect((await belay(['logs'])).err).toBe(
      "belay: missing required argument 'target'\nUsage: belay logs [options] <target>. More: belay logs --help\n",
    );
    const option = await belay(['ps', '--sate', 'running']);
    expect(option.code).toBe(EXIT.usage);
    expect(option.err).toContain("belay: unknown option '--sate'\n(Did you mean --state?)");
    expect((await belay(['stop', EXE, '--grace', '2'])).err).toContain(
      '"2" is not a duration such as 500ms, 2s or 1m.',
    );
    expect((await belay(['stop', EXE, '--grace', '2s', '--now'])).code).toBe(EXIT.usage);
    expect((await belay(['ps', '--state', 'asleep'])).err).toContain('"asleep" is not one of idle, running,');
    expect(asked).toEqual([]);
  });

  it('is one JSON object on stderr with --json', async () => {
    const of = async (...args: string[]): Promise<unknown> => {
      const { code, out, err } = await belay([...args, '--json']);
      expect([code, out, err.trimEnd().includes('\n')]).toEqual([EXIT.usage, '', false]);
      return (JSON.parse(err) as { error: unknown }).error;
    };
    expect(await of('kil')).toEqual({ code: 'USAGE', message: "unknown command 'kil' (Did you mean kill?)" });
    expect(await of('ps', '--sate')).toMatchObject({ code: 'USAGE' });
    expect(await of('stop')).toEqual({ code: 'USAGE', message: "missing required argument 'execution'" });
    expect(await of()).toMatchObject({ message: 'No command was named. List them with: belay --help' });
    expect(await of('kill')).toMatchObject({ code: 'USAGE' });
  });

  it('prints help and version on stdout with exit code 0', async () => {
    expect(await belay(['--version'])).toMatchObject({ code: 0, out: '0.1.0\n', err: '' });
    const help = await belay(['kill', '--help']);
    expect(help.code).toBe(0);
    expect(help.out).toContain('--dry-run');
    expect(help.out).toContain('Global Options:');
  });
});

describe('hints', () => {
  it('name the same Belay as the command did', async () => {
    const path = 'GET /api/executions?state=idle%2Crunning%2Cpaused%2Cstopping&limit=200';
    routes[path] = [200, { items: [] }];
    const { err } = await belay(['ps', '--data-dir', 'second']);
    expect(err).toContain('Ended executions: belay --data-dir second ps --all.');
    expect(
      keepFlags('Look: belay ps --all, belay up; belay: belay is up', { dataDir: 'my dir', url: 'u' }),
    ).toBe(
      "Look: belay --data-dir 'my dir' --url u ps --all, belay --data-dir 'my dir' up; belay: belay is up",
    );
    expect(keepFlags('belay kill --local', { url: 'u' })).toBe('belay kill --local');
    expect(keepFlags('belay ps', {})).toBe('belay ps');
  });

  it('know every command', () => {
    const names = buildProgram(scriptedProcess({ cwd: '/' }), () => async () => undefined).commands;
    expect([...COMMANDS]).toEqual(names.map((command) => command.name()).toSorted());
  });
});

it('names the wait once, without a terminal and on stderr', async () => {
  routes['POST /api/killswitch?wait=0'] = [202, { ...RECEIPT, state: 'open', complete: false }];
  routes[`GET /api/killswitch/${RECEIPT.orderId}?wait=1`] = (response) => {
    setTimeout(() => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(RECEIPT));
    }, 2_400);
  };
  const { code, err } = await belay(['kill', '--all', '--yes']);
  expect([code, err]).toEqual([
    EXIT.ok,
    'killing everything: waiting for proof, at most for the limit of the orchestrator (BELAY_PROOF_LIMIT_MS, 30 s unless set)\n',
  ]);
});

describe('errors', () => {
  it('of a kill or a stop whose reply the state server lost names the command that works without it', async () => {
    const { message: detail } = new OutcomeUnknownError({ script: 'placeOrder' }, new Error('reset'));
    routes['POST /api/killswitch?wait=0'] = [503, { code: 'OUTCOME_UNKNOWN', detail }];
    routes[`POST /api/executions/${EXE}/stop?wait=0`] = [
      503,
      { code: 'SERVER_UNREACHABLE', detail: 'It is away.' },
    ];
    routes[`POST /api/executions/${EXE}/retry`] = [503, { code: 'OUTCOME_UNKNOWN', detail }];
    expect(await belay(['kill', '--all', '--yes'])).toMatchObject({
      code: EXIT.unconfirmed,
      err:
        'belay: The state server gave no answer: the order may or may not be stored. Look with: belay audit. ' +
        'Without the orchestrator, on each machine with workers: belay kill --local --all\n',
    });
    expect((await belay(['stop', EXE])).err).toContain(
      `It is away. Without the orchestrator, on each machine with workers: belay kill --local --execution ${EXE}\n`,
    );
    expect((await belay(['retry', EXE])).err).toBe(
      "belay: The state server's reply was lost: the call may or may not have been carried out. Look before you repeat it.\n",
    );
  });

  it('say which server was asked, also under --json', async () => {
    routes['GET /api/workers'] = [401, { code: 'UNAUTHORIZED', detail: 'A valid token is needed.' }];
    const { error } = JSON.parse((await belay(['workers', '--json'])).err) as { error: object };
    expect(error).toMatchObject({
      details: { url: fake.url, urlFrom: 'from BELAY_URL', tokenFrom: 'BELAY_TOKEN' },
    });
  });

  it('of a start say how an ended execution goes on', async () => {
    routes[`POST /api/executions/${EXE}/start`] = [409, { code: 'INVALID_TRANSITION', detail: 'No.' }];
    routes[`GET /api/executions/${EXE}`] = [200, { ...RECORD, state: 'stopped' }];
    expect((await belay(['start', EXE])).err).toBe(
      `belay: ${EXE} is stopped. Continue it with: belay retry ${EXE}\n`,
    );
  });

  it('of a node that is not there say where the nodes are', async () => {
    routes[`GET /api/executions/${EXE}`] = [200, RECORD];
    expect((await belay(['get', `${EXE}/nope`])).err).toBe(
      `belay: ${EXE} has no node "nope". List its nodes with: belay get ${EXE}\n`,
    );
  });

  it('lists every problem of a refused spec, once', async () => {
    writeFileSync(join(cwd, 'spec.yaml'), 'name: a\nnodes: []\n');
    const problems = [
      { path: 'nodes', code: 'TOO_FEW', message: 'must have at least one node.' },
      { path: 'name', code: 'REQUIRED', message: 'give it one.' },
    ];
    const detail = 'The execution spec is not valid: nodes: must have at least one node. (and 1 more)';
    routes['POST /api/executions'] = [400, { code: 'INVALID_SPEC', detail, problems }];
    expect(await belay(['run', 'spec.yaml'])).toMatchObject({
      code: EXIT.failed,
      out: '',
      err:
        'belay: The execution spec is not valid:\n' +
        '  nodes  TOO_FEW   must have at least one node.\n' +
        '  name   REQUIRED  give it one.\n',
    });
  });

  it('has an exit code for each kind, and says where the token came from', async () => {
    routes['GET /api/workers'] = [401, { code: 'UNAUTHORIZED', detail: 'A valid token is needed.' }];
    expect(await belay(['workers'])).toMatchObject({
      code: EXIT.refused,
      err: `belay: A valid token is needed.\n  the address asked is ${fake.url} (from BELAY_URL)\n  the token came from BELAY_TOKEN\n`,
    });
    expect(await belay(['get', EXE])).toMatchObject({ code: EXIT.notFound });
    expect(await belay(['ps', '--url', 'http://127.0.0.1:2'])).toMatchObject({
      code: EXIT.unreachable,
      err: 'belay: No orchestrator answers at http://127.0.0.1:2 (connection refused). Start one with: belay up\n  the address is from --url\n',
    });
    expect(await belay(['run', 'absent.yaml'])).toMatchObject({
      code: EXIT.usage,
      err: 'belay: absent.yaml cannot be read: there is no such file.\n',
    });
    expect(await belay(['get', `wrk_${U}`])).toMatchObject({ code: EXIT.usage });
  });

  it('are one JSON object on stderr under --json, and stdout stays empty', async () => {
    const { out, err, code } = await belay(['get', EXE, '--json']);
    expect({ out, code }).toEqual({ out: '', code: EXIT.notFound });
    expect(JSON.parse(err)).toMatchObject({ error: { code: 'NOT_FOUND' } });
  });
});

describe('ps', () => {
  it('lists executions that have not ended, in one JSON document or a table', async () => {
    const path = 'GET /api/executions?state=idle%2Crunning%2Cpaused%2Cstopping&limit=200';
    routes[path] = [200, { items: [RECORD], nextCursor: 'c' }];
    routes[path.replace('&limit', '&cursor=c&limit').replace('=200', '=199')] = [200, { items: [] }];
    routes[path.replace('&limit=200', '&cursor=c&limit=200')] = [200, { items: [] }];
    expect((await belay(['ps'])).out).toBe(
      'EXECUTION                       NAME     STATE    NODES  RUNNING  TIME  COST\n' +
        `${EXE}  nightly  running  1/2    1        -     $0\n`,
    );
    expect(JSON.parse((await belay(['ps', '--json'])).out)).toEqual({
      items: [RECORD],
      truncated: false,
      waiting: {},
    });
  });

  it('says so when the server leaves out the oldest', async () => {
    routes['GET /api/executions?limit=200'] = [200, { items: [RECORD], truncated: true }];
    expect((await belay(['ps', '--all'])).err).toContain('The server does not list older ones');
    expect(JSON.parse((await belay(['ps', '--all', '--json'])).out)).toMatchObject({ truncated: true });
  });

  it('says why nothing runs of what could', async () => {
    const stuck = { ...RECORD, live: 0, nodes: { ...COUNTS, running: 0, ready: 1 } };
    routes['GET /api/executions?state=idle%2Crunning%2Cpaused%2Cstopping&limit=200'] = [
      200,
      { items: [stuck] },
    ];
    routes[`GET /api/executions/${EXE}/nodes?state=ready&limit=1000`] = [
      200,
      { items: [{ id: 'b', index: 1, state: 'ready', attempt: 1, pool: 'gpu' }] },
    ];
    routes['GET /api/workers'] = [200, { items: [{ id: 'w', state: 'draining', pools: ['gpu'] }] }];
    routes['GET /api/latches'] = [200, { items: [] }];
    const why = '1 node ready: pool gpu has no worker that takes work: 1 worker of it is draining';
    expect((await belay(['ps'])).err).toContain(`${EXE}  ${why}\n`);
    routes['POST /api/executions'] = [201, stuck];
    writeFileSync(join(cwd, 'spec.yaml'), 'name: nightly\nnodes: [{ id: b, run: { command: ["true"] } }]\n');
    expect((await belay(['run', 'spec.yaml'])).err).toContain(`${why}\n`);
  });

  it('gives advice when there is nothing to list', async () => {
    routes['GET /api/executions?limit=200&label=a%3Db'] = [200, { items: [] }];
    expect(await belay(['ps', '--all', '--label', 'a=b'])).toMatchObject({
      code: 0,
      out: '',
      err: 'No executions. Start one with: belay run FILE\n',
    });
  });
});

describe('run', () => {
  beforeEach(() => writeFileSync(join(cwd, 'spec.yaml'), 'name: nightly\nlabels: { team: a }\nnodes: []\n'));

  it('posts the raw spec with its flags, and names the next commands', async () => {
    routes['POST /api/executions'] = [201, RECORD];
    const ran = await belay(['run', 'spec.yaml', '--label', 'env=prod', '--idempotency-key', 'k']);
    expect(asked).toEqual([
      'POST /api/executions {"name":"nightly","labels":{"team":"a","env":"prod"},"nodes":[],"idempotencyKey":"k"}',
    ]);
    expect(ran).toMatchObject({
      code: 0,
      out: `${EXE}  nightly, 2 nodes, running\n`,
      err: `Follow it: belay watch ${EXE}\nStop it:   belay stop ${EXE}\n`,
    });
  });

  it('posts a spec that stdin brings', async () => {
    routes['POST /api/executions'] = [201, RECORD];
    const { code } = await belay(['run', '-'], { input: ['name: piped', 'nodes: []'] });
    expect({ code, asked }).toEqual({
      code: 0,
      asked: ['POST /api/executions {"name":"piped","nodes":[]}'],
    });
    expect((await belay(['run', '-'])).err).toContain('the file is empty');
  });

  it('R35 asks to be refused rather than to wait for a limit', async () => {
    const detail = 'The limit fleet has no room now.';
    routes['POST /api/executions?queue=false'] = [429, { code: 'LIMITED', detail, status: 429 }];
    const { code, err } = await belay(['run', 'spec.yaml', '--no-queue']);
    expect({ code, err }).toEqual({ code: 1, err: `belay: ${detail}\n` });
    expect(asked).toHaveLength(1);
  });

  it.each([
    ['completed', EXIT.ok],
    ['failed', EXIT.failed],
    ['stopped', EXIT.stopped],
  ])('with --watch ends as the execution does: %s is %i', async (state, code) => {
    routes['POST /api/executions'] = [201, RECORD];
    routes[`GET /api/agents?state=running&executionId=${EXE}&limit=100`] = [200, { items: [] }];
    routes[`GET /api/executions/${EXE}/events`] = sse({
      id: '1-1',
      seq: 1,
      type: `execution.${state}`,
      entity: 'execution',
      to: state,
      at: 1,
    });
    routes[`GET /api/executions/${EXE}`] = [200, { ...RECORD, state, startedAt: 1_000, completedAt: 3_000 }];
    const ran = await belay(['run', 'spec.yaml', '--watch']);
    expect(ran.code).toBe(code);
    expect(ran.out).toContain(`${state}  nightly in 2.0 s, 2 nodes: 1 completed, 1 running, cost $0\n`);
  });

  it('retry --watch tells nothing of the run before', async () => {
    const event = (seq: number, type: string, more: object = {}) => ({
      id: `${seq}-1`,
      seq,
      type,
      entity: 'execution',
      at: seq,
      ...more,
    });
    const own = [event(4, 'execution.running', { data: { epoch: 2 } }), event(5, 'node.completed')];
    const end = event(6, 'execution.completed', { to: 'completed' });
    routes[`POST /api/executions/${EXE}/retry`] = [200, { ...RECORD, epoch: 2 }];
    routes[`GET /api/executions/${EXE}/events`] = sse(
      event(1, 'execution.running', { data: { epoch: 1 } }),
      event(2, 'node.failed'),
      event(3, 'execution.failed', { to: 'failed' }),
      ...own,
      end,
    );
    const record = { ...RECORD, epoch: 2, state: 'completed' };
    routes[`GET /api/executions/${EXE}`] = [200, record];
    const { code, out } = await belay(['retry', EXE, '--watch', '--json']);
    expect(code).toBe(EXIT.ok);
    const lines = out.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([...own, end, { execution: record }]);
  });

  it('of an ended execution names the command that shows it, and none to follow or stop it', async () => {
    routes['POST /api/executions'] = [200, { ...RECORD, state: 'completed' }];
    const { err } = await belay(['run', 'spec.yaml', '--idempotency-key', 'k']);
    expect(err).toContain(`It has ended. Look at it: belay get ${EXE}\n`);
    expect(err).not.toMatch(/Follow it|Stop it/);
  });

  it('with --watch --json prints each event and the record, one a line', async () => {
    routes['POST /api/executions'] = [201, RECORD];
    const event = {
      id: '1-1',
      seq: 1,
      type: 'execution.completed',
      entity: 'execution',
      to: 'completed',
      at: 1,
    };
    routes[`GET /api/executions/${EXE}/events`] = sse(event);
    routes[`GET /api/executions/${EXE}`] = [200, { ...RECORD, state: 'completed' }];
    const { out, err } = await belay(['run', 'spec.yaml', '--watch', '--json']);
    const lines = out.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      event,
      { execution: { ...RECORD, state: 'completed' } },
    ]);
    expect(err).toBe('');
  });

  it('detaches on the first Ctrl-C and leaves at once on the second', async () => {
    routes['POST /api/executions'] = [201, RECORD];
    routes[`GET /api/agents?state=running&executionId=${EXE}&limit=100`] = [200, { items: [] }];
    const cli = scriptedProcess({ cwd, env: { BELAY_URL: fake.url, BELAY_TOKEN: 't' } });
    routes[`GET /api/executions/${EXE}/events`] = (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('event: ready\ndata: {}\n\n');
      setImmediate(() => {
        cli.send('SIGINT');
        cli.send('SIGINT');
      });
    };
    expect(await runCli(['run', 'spec.yaml', '--watch'], cli)).toBe(EXIT.interrupted);
    expect(cli.written.stderr).toContain(
      `Detached. ${EXE} runs on. Follow it: belay watch ${EXE}\nStop it: belay stop ${EXE}\n`,
    );
    expect(cli.exits).toEqual([130]);
    expect(asked.some((call) => call.includes('/stop'))).toBe(false);
  });

  it('refuses --time-scale for a spec of our own', async () => {
    expect(await belay(['run', 'spec.yaml', '--time-scale', '0.1'])).toMatchObject({
      code: EXIT.usage,
      err: "belay: --time-scale is for WfFormat files; spec.yaml is a spec of Belay's own.\n",
    });
  });
});

describe('stop and kill', () => {
  const stopped = {
    status: 'stopped',
    executionId: EXE,
    reason: 'user_abort',
    finalCostUsd: 0.5,
    costEstimated: true,
    summary: { nodesCompleted: 1, nodesFailed: 0, nodesTotal: 2, durationMs: 1_500 },
  };

  it('shows the answer with its receipt; an incomplete one is exit code 7', async () => {
    routes[`POST /api/executions/${EXE}/stop?wait=0`] = [
      202,
      { executionId: EXE, status: 'stopping', orderId: `ord_${U}` },
    ];
    routes[`POST /api/executions/${EXE}/stop`] = [200, { ...stopped, receipt: RECEIPT }];
    const ran = await belay(['stop', EXE, '--note', 'why', '--grace', '1s']);
    const body = '{"reason":"user_abort","note":"why","graceMs":1000}';
    expect(asked).toEqual([
      `POST /api/executions/${EXE}/stop?wait=0 ${body}`,
      `POST /api/executions/${EXE}/stop ${body}`,
    ]);
    expect(ran.code).toBe(0);
    expect(ran.out.split('\n').slice(0, 3)).toEqual([
      `${EXE}  stopped (user_abort)`,
      '1 of 2 nodes completed, 0 failed, ran 1.5 s, cost $0.50, estimated',
      '',
    ]);
    routes[`POST /api/executions/${EXE}/stop`] = [200, { ...stopped, status: 'failed', receipt: INCOMPLETE }];
    expect((await belay(['stop', EXE])).code).toBe(EXIT.unconfirmed);
    routes[`POST /api/executions/${EXE}/stop`] = [200, { ...stopped, status: 'stopping' }];
    expect((await belay(['stop', EXE])).code).toBe(EXIT.unconfirmed);
    routes[`POST /api/executions/${EXE}/stop`] = [504, { code: 'TIMEOUT', detail: 'Not proved in time.' }];
    expect(await belay(['stop', EXE])).toMatchObject({
      code: EXIT.unconfirmed,
      err: `belay: Order ord_${U} is stored, but no answer showed its proof: Not proved in time. Look with: belay receipt ord_${U}\n`,
    });
    // The order is taken at any rate; the read of its receipt may be refused.
    const detail = 'The token v may make 5 requests per second. Try again in 1 second.';
    routes[`POST /api/executions/${EXE}/stop`] = [429, { code: 'RATE_LIMITED', detail }];
    const limited = await belay(['stop', EXE]);
    expect(limited.code).toBe(EXIT.unconfirmed);
    expect(limited.err).toContain(
      `Order ord_${U} is stored, but no answer showed its proof: The token v may`,
    );
  });

  it('names after 5 s without an answer the command that works without one, and claims nothing when it is left', async () => {
    routes[`POST /api/executions/${EXE}/stop?wait=0`] = () => undefined;
    const local = `Without the orchestrator, on each machine with workers: belay kill --local --execution ${EXE}\n`;
    const cli = scriptedProcess({ cwd: fake.cwd, env: { BELAY_URL: fake.url, BELAY_TOKEN: 't' } });
    const code = runCli(['stop', EXE], cli);
    while (!cli.written.stderr.includes('No answer')) await new Promise((resolve) => setTimeout(resolve, 50));
    cli.send('SIGINT');
    expect(await code).toBe(EXIT.interrupted);
    expect(cli.written.stderr).toContain(
      `No answer from ${fake.url} after 5 s: the order may not be stored. ${local}`,
    );
    expect(cli.written.stderr).toContain(
      'No answer came: the order may not be stored. Look with: belay audit. ' +
        `Without the orchestrator: belay kill --local --execution ${EXE}\n`,
    );
    expect(cli.written.stderr).not.toMatch(/durable|is stored|goes on/);
  }, 15_000);

  it('says that the order is stored once an answer has shown it', async () => {
    routes[`POST /api/executions/${EXE}/stop?wait=0`] = [
      202,
      { executionId: EXE, status: 'stopping', orderId: `ord_${U}` },
    ];
    let waits: (() => void) | undefined;
    const waiting = new Promise<void>((resolve) => (waits = resolve));
    routes[`POST /api/executions/${EXE}/stop`] = () => waits?.();
    const cli = scriptedProcess({ cwd: fake.cwd, env: { BELAY_URL: fake.url, BELAY_TOKEN: 't' } });
    const code = runCli(['stop', EXE], cli);
    await waiting;
    cli.send('SIGINT');
    expect(await code).toBe(EXIT.interrupted);
    expect(cli.written.stderr).toBe(
      `Order ord_${U} is stored and goes on. Its evidence: belay receipt ord_${U}\n`,
    );
  });

  it('asks another orchestrator where one is not there', async () => {
    routes[`POST /api/executions/${EXE}/stop?wait=0`] = [202, { executionId: EXE, status: 'stopped' }];
    routes[`POST /api/executions/${EXE}/stop`] = [200, stopped];
    const cli = scriptedProcess({
      cwd: fake.cwd,
      env: { BELAY_URL: `http://127.0.0.1:2,${fake.url}`, BELAY_TOKEN: 't' },
    });
    expect(await runCli(['stop', EXE], cli)).toBe(EXIT.ok);
  });

  it('does not wait with --no-wait', async () => {
    const accepted = { orderId: `ord_${U}`, executionId: EXE, status: 'stopping' };
    routes[`POST /api/executions/${EXE}/stop?wait=0`] = [202, accepted];
    expect(await belay(['stop', EXE, '--no-wait'])).toMatchObject({
      code: 0,
      out: `${EXE}  stopping\n`,
      err: `The order is stored. Its evidence: belay receipt ord_${U}\n`,
    });
  });

  it('wants exactly one scope', async () => {
    const err =
      'belay: Name exactly one scope: --all, --pool, --selector, --worker, --execution, --agent, --job.\n';
    expect(await belay(['kill'])).toMatchObject({ code: EXIT.usage, err });
    expect(await belay(['kill', '--all', '--agent', 'x'])).toMatchObject({ code: EXIT.usage, err });
  });

  it('kills all without a terminal only with --yes', async () => {
    routes['POST /api/killswitch?wait=0'] = [200, RECEIPT];
    expect(await belay(['kill', '--all'])).toMatchObject({ code: EXIT.usage });
    expect(asked).toEqual([]);
    expect((await belay(['kill', '--all', '--yes', '--now'])).code).toBe(0);
    expect(asked).toEqual(['POST /api/killswitch?wait=0 {"scope":{"type":"all"},"mode":"immediate"}']);
  });

  it('asks on a terminal, and takes nothing but the words', async () => {
    routes['POST /api/killswitch?wait=0'] = [200, RECEIPT];
    routes['POST /api/killswitch?dryRun=1'] = [
      200,
      { targets: [{ executionId: EXE }, { executionId: EXE }], executions: [EXE] },
    ];
    const no = await belay(['kill', '--all'], { isTTY: true, answers: ['yes'] });
    expect(no).toMatchObject({ code: EXIT.interrupted, out: '' });
    expect(no.err).toBe(
      'This kills 2 agents of 1 execution, and nothing starts there until the latch is released. ' +
        'Type "kill all" to go on: Nothing was killed.\n',
    );
    expect((await belay(['kill', '--all'], { isTTY: true, answers: ['kill all'] })).code).toBe(0);
    expect(asked.filter((call) => call.startsWith('POST /api/killswitch?wait=0 {'))).toHaveLength(1);
  });

  it('shows the agents that it would kill', async () => {
    const target = { agentId: `agt_${U}-0-1`, executionId: EXE, nodeId: 'fetch', workerId: `wrk_${U}` };
    routes['POST /api/killswitch?dryRun=1'] = [200, { targets: [target], executions: [EXE] }];
    expect((await belay(['kill', '--execution', EXE, '--dry-run'])).out).toBe(
      `killing execution ${EXE} would hit 1 agent on 1 worker and stop 1 execution\n` +
        `  fetch  agt_${U}-0-1 on wrk_${U}\n` +
        'no latch would be engaged\n' +
        'nothing was killed: this was a dry run\n',
    );
  });

  it('shows a receipt later', async () => {
    routes[`GET /api/killswitch/ord_${U}`] = [200, INCOMPLETE];
    expect((await belay(['receipt', `ord_${U}`])).code).toBe(EXIT.unconfirmed);
    expect(JSON.parse((await belay(['receipt', `ord_${U}`, '--json'])).out)).toEqual(INCOMPLETE);
  });
});

it('prints logs of a node by the agent of its latest attempt', async () => {
  routes[`GET /api/executions/${EXE}/nodes/fetch`] = [
    200,
    { id: 'fetch', index: 3, attempt: 3, state: 'ready', agentId: `agt_${U}-3-2` },
  ];
  routes[`GET /api/agents/agt_${U}-3-2/logs`] = [
    200,
    {
      lines: [
        { id: '1', at: 1, n: 1, stream: 'stdout', line: 'hi\u001b[2J' },
        {
          id: '2',
          at: 1,
          n: 4,
          stream: 'stdout',
          line: 'end',
          partial: true,
          skipped: { lines: 2, bytes: 30 },
        },
      ],
      total: { lines: 5, bytes: 41 },
      skipped: { lines: 3, bytes: 31 },
      ended: true,
      file: { workerId: 'wrk_1', host: 'box', path: '/logs/a.log', lostBytes: 7 },
    },
  ];
  expect(await belay(['logs', `${EXE}/fetch`])).toMatchObject({
    out: 'hi\u001b[2J\nend',
    err:
      '… 2 lines (30 bytes) left out here; they are in /logs/a.log on box\n' +
      '… 1 line (1 bytes) left out here; they are in /logs/a.log on box\n' +
      'The whole output, 5 lines (41 bytes), is in /logs/a.log on box, with its end in /logs/a.log.1 and .2; 7 bytes in between were not kept.\n',
  });
  expect((await belay(['logs', `${EXE}/fetch`], { isTTY: true })).out).toBe('hi[2J\nend\n');
  routes[`GET /api/executions/${EXE}/nodes/fetch`] = [
    200,
    { id: 'fetch', index: 3, attempt: 1, state: 'ready' },
  ];
  expect(await belay(['logs', `${EXE}/fetch`])).toMatchObject({
    code: EXIT.notFound,
    err: 'belay: Node fetch has no agent yet: it is ready.\n',
  });
});

it('doctor says what is wrong and gives advice', async () => {
  routes['GET /health'] = [200, { state: 'running' }];
  routes['GET /api/workers'] = [200, { items: [] }];
  routes['GET /api/latches'] = [200, { items: [{ kind: 'latch' }, { kind: 'freeze' }, { kind: 'freeze' }] }];
  const { code, out } = await belay(['doctor', '--json']);
  const answer = JSON.parse(out) as {
    ok: boolean;
    checks: { name: string; result: string; message: string }[];
  };
  const results = Object.fromEntries(answer.checks.map(({ name, result }) => [name, result]));
  expect(results).toMatchObject({
    node: 'ok',
    'data dir': 'warn',
    orchestrator: 'ok',
    token: 'ok',
    workers: 'warn',
    latches: 'warn',
    // The token of this spec is shorter than the setting allows.
    settings: 'fail',
    'native layer': nativeState().available ? 'ok' : 'warn',
  });
  expect([code, answer.ok]).toEqual([EXIT.failed, false]);
  expect(answer.checks.find(({ name }) => name === 'latches')?.message).toBe('engaged: 1 latch, 2 freezes');
});

describe('docs/cli.md', () => {
  const doc = readFileSync(join(__dirname, '../../../docs/cli.md'), 'utf8');
  const program = buildProgram(scriptedProcess({ cwd: '/' }), () => async () => undefined);
  const section = (name: string): string => {
    const from = doc.indexOf(`### \`belay ${name}`);
    return from < 0 ? '' : doc.slice(from, doc.indexOf('\n### ', from + 1) >>> 0);
  };
  const flags = (command: Command): string[] => command.options.map((option) => option.long ?? option.flags);

  it.each(program.commands.map((command) => [command.name(), command] as const))(
    'describes belay %s with every option',
    (name, command) => {
      expect(section(name)).not.toBe('');
      for (const flag of flags(command)) expect(section(name)).toContain(`\`${flag}`);
    },
  );

  it('describes every global option and exit code', () => {
    for (const flag of flags(program)) expect(doc).toContain(`\`${flag}`);
    for (const code of Object.values(EXIT)) expect(doc).toContain(`| ${code} |`);
  });

  it('names no option that is not there', () => {
    const below = program.commands.flatMap((command) => command.commands);
    const known = new Set([program, ...program.commands, ...below].flatMap(flags));
    const named = new Set(doc.match(/(?<![\w-])--[a-z][a-z-]+/g));
    expect([...named].filter((flag) => !known.has(flag) && flag !== '--help')).toEqual([]);
  });
});
