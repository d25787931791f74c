import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { EXIT } from '../exit-codes';
import { startTimeOf } from '../session/living-process';
import { startScriptedServer, type ScriptedServer } from '../../../../test/support/scripted-server';
import { askWorker, SilentWorkerError } from './ask-worker';
import { killLocally } from './kill-locally';
import { findLocalAgents } from './local-agents';
import { findLocalWorkers, livingWorkers } from './local-workers';

const U = '01ARZ3NDEKTSV4RRFFQ69G5FA';
const [A, B] = [`wrk_${U}V`, `wrk_${U}W`] as const;
const EXE = `exe_${U}V`;
const AGENT = `agt_${U}V-0-1`;
const target = (workerId: string, outcome = 'killed'): object => ({
  agentId: AGENT,
  executionId: EXE,
  nodeId: 'fetch',
  workerId,
  outcome,
});
const receipt = (workerId: string, more: object = {}): object => ({
  id: `local_${U}V`,
  workerId,
  scope: { type: 'all' },
  complete: true,
  targets: [target(workerId)],
  holding: true,
  ...more,
});

let fake: ScriptedServer;
let dataDir: string;
let servers: Server[];
/** Requests by worker, without those that only check whether it is awake. */
let told: Record<string, object[]>;
beforeEach(async () => {
  fake = await startScriptedServer();
  dataDir = join(fake.cwd, '.belay');
  mkdirSync(join(dataDir, 'workers'), { recursive: true });
  mkdirSync(join(dataDir, 'hosts'));
  servers = [];
  told = {};
});
afterEach(async () => {
  for (const server of servers) server.close();
  await fake.close();
});

/** A worker that answers a kill with `answer`; undefined: it accepts and stays silent. */
async function worker(id: string, answer: object | string | undefined): Promise<string> {
  const path = join(dataDir, 'workers', `${id}.sock`);
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      const request = JSON.parse(chunk.toString()) as object;
      if (answer === undefined) return;
      if (Object.keys(request).length === 0) return void socket.end('{"code":"INVALID_REQUEST"}\n');
      (told[id] ??= []).push(request);
      socket.end(typeof answer === 'string' ? answer : `${JSON.stringify(answer)}\n`);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return path;
}

function record(
  id: string,
  owner: object = { pid: process.pid, startTime: 'another' },
  place?: object,
): void {
  writeFileSync(join(dataDir, 'hosts', `${id}.json`), JSON.stringify({ owner, place }));
}

describe('kill --local', () => {
  it('R55 asks every worker and no server, and shows their receipts as one', async () => {
    await worker(A, receipt(A));
    await worker(B, receipt(B, { targets: [] }));
    const { code, out, err } = await fake.belay(
      'kill --local --all --yes --now --note fire --token-file /absent'.split(' '),
    );
    expect([code, err]).toEqual([EXIT.ok, '']);
    expect(out).toMatch(
      new RegExp(
        '^kill everything on this machine, without the server\nasked by .+@.+\n' +
          `killed        fetch  ${AGENT} on ${A}\n +ended before a process was started\n` +
          '1 target: 1 killed\ncomplete: every target is confirmed, on 2 workers of this machine\n' +
          `${A}, ${B} take no work; once the server answers each engages a latch for itself\n` +
          'look with: belay --token-file /absent latches; release each with: belay --token-file /absent release LATCH --note "why"\n$',
      ),
    );
    const request = {
      scope: { type: 'all' },
      mode: 'immediate',
      note: 'fire',
      by: expect.any(String) as string,
    };
    expect(told).toEqual({ [A]: [request], [B]: [request] });
    expect(fake.asked).toEqual([]);
  });

  it.each([
    [['--pool', 'gpu', '--grace', '1s'], { type: 'pool', pool: 'gpu' }, EXIT.unmatched],
    [['-l', 'team=data'], { type: 'selector', selector: 'team=data' }, EXIT.unmatched],
    [['--execution', EXE], { type: 'execution', executionId: EXE }, EXIT.ok],
    [['--agent', AGENT], { type: 'agent', agentId: AGENT }, EXIT.ok],
  ])('takes %j, and says that nothing is latched', async (args, scope, exit) => {
    await worker(A, receipt(A, { holding: false, targets: [] }));
    const { code, out } = await fake.belay(['kill', '--local', ...args]);
    expect(code).toBe(exit);
    expect(told[A]).toMatchObject([{ scope, mode: 'graceful' }]);
    expect(out.endsWith('no latch is engaged: new agents may start in the scope\n')).toBe(true);
    expect(out).toContain('complete: nothing was running in scope, on 1 worker of this machine\n');
  });

  it.each([
    ['--pool', 'gpx', 'pool gpx'],
    ['-l', 'team=dta', 'team=dta'],
  ])('R55 warns that no worker runs anything in %s %s, with exit code 8', async (flag, name, told) => {
    await worker(A, receipt(A, { holding: false, targets: [] }));
    const { code, err } = await fake.belay(['kill', '--local', flag, name]);
    expect(code).toBe(EXIT.unmatched);
    expect(err).toContain(`warning: No worker of this machine runs an agent in `);
    expect(err).toContain(told);
    expect(err).toContain('belay kill --local --all');
    const { out } = await fake.belay(['kill', '--local', flag, name, '--json']);
    expect(JSON.parse(out)).toMatchObject({ complete: true, warning: { code: 'NOTHING_MATCHED' } });
    // A worker with such an agent answers for the name.
    await worker(B, receipt(B));
    expect(await fake.belay(['kill', '--local', flag, name])).toMatchObject({ code: EXIT.ok, err: '' });
  });

  it('asks only the worker that was named', async () => {
    await worker(A, receipt(A));
    await worker(B, receipt(B));
    const { out } = await fake.belay(['kill', '--local', '--worker', B, '--json']);
    expect(Object.keys(told)).toEqual([B]);
    expect(JSON.parse(out)).toMatchObject({ complete: true, workers: [{ workerId: B }], unreached: [] });
  });

  it('names the workers that were not reached and why, with exit code 7', async () => {
    await worker(A, receipt(A, { complete: false, targets: [target(A, 'unconfirmed')] }));
    record(B);
    const { code, out } = await fake.belay(['kill', '--local', '--all', '--yes']);
    expect(code).toBe(EXIT.unconfirmed);
    expect(out).toContain(
      `not reached   ${B}: it has no socket\n` +
        '              no process of its agents is seen; one that cleared its environment cannot be\n' +
        '              → its guardian ends them, else the next worker that starts here: belay worker\n' +
        'incomplete: 1 target not confirmed, 1 worker not reached. It is safe to type it again\n',
    );
    await worker(B, '');
    const silent = await fake.belay(['kill', '--local', '--worker', B]);
    expect(silent.out).toContain(`${B}: it closed the connection without an answer\n`);
    rmSync(join(dataDir, 'workers', `${B}.sock`));
    await worker(B, { code: 'DRAINING', detail: 'It drains.' });
    const refused = await fake.belay(['kill', '--local', '--worker', B, '--json']);
    expect(JSON.parse(refused.out)).toMatchObject({
      complete: false,
      unreached: [{ workerId: B, why: 'it refused: It drains.', agents: [] }],
    });
  });

  it('does not look complete when there was no worker to ask', async () => {
    const none = await fake.belay(['kill', '--local', '--all', '--yes']);
    expect(none).toMatchObject({ code: EXIT.notFound, out: '' });
    expect(none.err).toBe(
      `belay: No worker keeps files in ${dataDir}. Give its data dir with --data-dir, and type this as its user.\n`,
    );
    await worker(A, receipt(A));
    const other = await fake.belay(['kill', '--local', '--worker', B]);
    expect(other).toMatchObject({ code: EXIT.notFound });
    expect(other.err).toBe(`belay: Worker ${B} keeps no files in ${dataDir}. There are: ${A}\n`);
    expect(told).toEqual({});
  });

  it('says where the workers are gone and left nothing', async () => {
    const stale = join(dataDir, 'workers', `${A}.sock`);
    writeFileSync(stale, '');
    const { code, out } = await fake.belay(['kill', '--local', '--all', '--yes']);
    expect(existsSync(stale)).toBe(false);
    expect(code).toBe(EXIT.ok);
    expect(out.endsWith('0 targets\ncomplete: no worker runs here, and earlier ones left no process\n')).toBe(
      true,
    );
  });

  it('asks like the other kill, and refuses options that it cannot honour', async () => {
    await worker(A, receipt(A));
    for (const [args, why] of [
      [['--all'], 'belay kill --all ends every agent of this machine. Without a terminal add --yes'],
      [['--all', '--no-wait'], '--no-wait is not for --local'],
      [['--all', '--no-latch'], '--no-latch is not for --local'],
      [['--execution', 'G5FAV'], '"G5FAV" is not the id of an execution'],
      [['--all', '--note', ''], 'note'],
    ] as const) {
      const ran = await fake.belay(['kill', '--local', ...args]);
      expect(ran).toMatchObject({ code: EXIT.usage, out: '' });
      expect(ran.err).toContain(why);
    }
    const no = await fake.belay(['kill', '--local', '--all'], { isTTY: true, answers: ['yes'] });
    expect(no).toMatchObject({ code: EXIT.interrupted, out: '' });
    expect(no.err).toBe(
      'This kills 0 agents of 0 executions seen on 1 worker of this machine, and nothing starts there until the ' +
        'latches are released. Type "kill all" to go on: Nothing was killed.\n',
    );
    const pool = await fake.belay(['kill', '--local', '--pool', 'gpu'], { isTTY: true, answers: ['no'] });
    expect(pool.err).toContain(
      'This kills the agents in pool gpu, of 0 agents of 0 executions seen on 1 worker',
    );
    expect(told).toEqual({});
    const yes = await fake.belay(['kill', '--local', '--all'], { isTTY: true, answers: ['kill all'] });
    expect(yes.code).toBe(EXIT.ok);
  });

  it('is offered where no orchestrator answers', async () => {
    const { code, err } = await fake.belay(['kill', '--agent', AGENT, '--url', 'http://127.0.0.1:2']);
    expect(code).toBe(EXIT.unreachable);
    expect(err).toBe(
      'belay: No orchestrator answers at http://127.0.0.1:2 (connection refused). Start one with: belay up. ' +
        `Without the orchestrator, on each machine with workers: belay kill --local --agent ${AGENT}\n  the address is from --url\n`,
    );
  });

  it('shows in a dry run the agents that are seen in /proc', async () => {
    await worker(A, receipt(A));
    const child = spawn('sleep', ['60'], {
      env: { PATH: process.env['PATH'], ...agentEnvironment(A) },
      stdio: 'ignore',
    });
    await once(child, 'spawn');
    try {
      const seen = { agentId: AGENT, executionId: EXE, nodeId: 'fetch', workerId: A, pids: [child.pid] };
      expect(findLocalAgents([A], { type: 'all' })).toEqual([seen]);
      expect(findLocalAgents([A], { type: 'agent', agentId: AGENT })).toEqual([seen]);
      expect(findLocalAgents([A], { type: 'execution', executionId: `exe_${U}W` })).toEqual([]);
      expect(findLocalAgents([B], { type: 'all' })).toEqual([]);
      const { out, err } = await fake.belay(['kill', '--local', '--pool', 'gpu', '--dry-run']);
      expect(out).toBe(
        'killing pool gpu would hit 1 agent on 1 worker\n' +
          `  fetch  ${AGENT} on ${A}\n` +
          'no latch would be engaged: new agents could start\nnothing was killed: this was a dry run\n',
      );
      expect(err).toContain('These at most: only their workers know which of them are in pool gpu.\n');
      const json = await fake.belay(['kill', '--local', '--all', '--dry-run', '--json']);
      expect(JSON.parse(json.out)).toEqual({ workers: [A], targets: [seen], executions: [], latch: true });
      expect(told).toEqual({});
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
});

const agentEnvironment = (workerId: string): Record<string, string> => ({
  BELAY_AGENT_ID: AGENT,
  BELAY_EXECUTION_ID: EXE,
  BELAY_NODE_ID: 'fetch',
  BELAY_WORKER_ID: workerId,
});

describe('workers of this machine', () => {
  it('are those with a socket or a record; one of another boot has left nothing', async () => {
    await worker(A, receipt(A));
    record(B, { pid: process.pid, startTime: 'another', bootId: 'another' });
    writeFileSync(join(dataDir, 'hosts', 'notes.json'), '{}');
    const socketOf = (id: string): string => join(dataDir, 'workers', `${id}.sock`);
    expect(findLocalWorkers(dataDir)).toEqual([
      { id: A, socket: socketOf(A), isOpen: false },
      { id: B, socket: socketOf(B), isOpen: false },
    ]);
    expect(findLocalWorkers(join(dataDir, 'absent'))).toEqual([]);
    // An unreadable record may belong to a worker that left processes.
    writeFileSync(join(dataDir, 'hosts', `${A}.json`), 'half');
    expect(findLocalWorkers(dataDir)[0]).toMatchObject({ id: A, isOpen: true });
  });

  it('of another machine that shares the data dir are not asked, and keep their sockets', async () => {
    record(A, { pid: 1, bootId: 'another' }, { machineId: 'another', pidNamespace: 'pid:[1]' });
    const socket = join(dataDir, 'workers', `${A}.sock`);
    writeFileSync(socket, '');
    const [found] = findLocalWorkers(dataDir);
    expect(found).toMatchObject({ id: A, isOpen: false, isElsewhere: true });
    expect(await livingWorkers(findLocalWorkers(dataDir))).toEqual([]);
    expect(existsSync(socket)).toBe(true);
  });

  it('of another PID namespace have no pid that could be signalled from here', () => {
    const owner = { pid: process.pid, startTime: startTimeOf(process.pid) };
    record(A, owner, { pidNamespace: readlinkSync('/proc/self/ns/pid') });
    record(B, owner, { pidNamespace: 'pid:[1]' });
    expect(findLocalWorkers(dataDir).map(({ pid }) => pid)).toEqual([process.pid, undefined]);
  });

  it('that ended with nothing left do not count; others do', async () => {
    const { signal } = new AbortController();
    const request = { scope: { type: 'all' }, mode: 'immediate', by: 'ann' } as const;
    const socket = join(dataDir, 'workers', `${A}.sock`);
    const settled = await killLocally([{ id: A, socket, isOpen: false }], request, { signal });
    expect(settled).toMatchObject({ complete: true, workers: [], unreached: [] });
    const open = await killLocally([{ id: A, socket, isOpen: true, pid: 7 }], request, { signal });
    expect(open).toMatchObject({
      complete: false,
      unreached: [{ workerId: A, why: 'it has no socket', pid: 7 }],
    });
  });

  it('whose fall-back directory others may write to are not trusted with a kill', async () => {
    const fallback = join(dataDir, 'fall-back');
    mkdirSync(fallback);
    chmodSync(fallback, 0o777);
    const socket = join(fallback, `${A}.sock`);
    const request = { scope: { type: 'all' }, mode: 'immediate', by: 'ann' } as const;
    const { signal } = new AbortController();
    expect(
      await killLocally([{ id: A, socket, isOpen: false }], request, { signal, fallback }),
    ).toMatchObject({
      complete: false,
      unreached: [
        { why: `its socket in ${fallback} is not trusted: other users may write to it (mode 777)` },
      ],
    });
  });

  it('that accept and stay silent are given up, those that take their time are not', async () => {
    const { signal } = new AbortController();
    const silent = await worker(A, undefined);
    await expect(askWorker(silent, { a: 1 }, { signal, awakeMs: 50 })).rejects.toThrow(SilentWorkerError);
    const path = join(dataDir, 'slow.sock');
    const slow = createServer((socket) => {
      socket.on('data', (chunk) => {
        const isProbe = chunk.toString() === '{}\n';
        setTimeout(() => socket.end('{"late":true}\n'), isProbe ? 0 : 300);
      });
    });
    servers.push(slow);
    await new Promise<void>((resolve) => slow.listen(path, resolve));
    expect(await askWorker(path, { a: 1 }, { signal, awakeMs: 100 })).toEqual({ late: true });
  });

  it('are left alone on Ctrl-C', async () => {
    const silent = await worker(A, undefined);
    const ending = new AbortController();
    const answer = askWorker(silent, { a: 1 }, { signal: ending.signal });
    ending.abort(new Error('interrupted'));
    await expect(answer).rejects.toThrow('interrupted');
  });
});
