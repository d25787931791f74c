import { randomUUID } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gradeOf } from '#libs/contracts';
import { collectProofs, createProcessHost, reportOfProof, type WorkerProof } from '#libs/spawner';
import { eventually as until, startFleet, type Fleet } from '../support/fleet';
import { AGENT_UIDS, noOwnUsers, processesOf } from '../support/own-user';
import {
  aliveWithEnvironment,
  eventually,
  expectedModes,
  FIXTURES,
  isAlive,
  knowing,
  procEntry,
  TestHost,
} from '../support/proc';
import { removeFolder } from '../support/remove-folder';
import { NOISE_MS } from '../support/wait';

const why = noOwnUsers();
if (why !== undefined) process.stdout.write(`Agents with users of their own are not tested here: ${why}.\n`);
const describeUsers = why === undefined ? describe : describe.skip;

/** A folder in which agents of any user may write, and one for the marks of user ids. */
let open: string;
let closed: string;
let uidFolder: string;
beforeEach(() => {
  open = mkdtempSync(join(tmpdir(), 'belay-open-'));
  chmodSync(open, 0o777);
  closed = mkdtempSync(join(tmpdir(), 'belay-marks-'));
  chmodSync(closed, 0o711);
  uidFolder = join(closed, 'uids');
});
afterEach(() => {
  for (const dir of [open, closed]) rmSync(dir, { recursive: true, force: true });
});

/** A range begins with a whole hundred. */
const ONE_OF_OURS = new RegExp(`^${String(AGENT_UIDS.first).slice(0, -2)}\\d\\d$`);
const isolation = () => ({ isolation: 'user', agentUids: AGENT_UIDS, uidFolder }) as const;
/** Owner and permit of each running host, and a mark for each agent. */
const marks = (): string[] => (existsSync(uidFolder) ? readdirSync(uidFolder) : []);

describeUsers.each(why === undefined ? expectedModes() : [])(
  'agents with users of their own, containment $name',
  (mode) => {
    let test: TestHost;
    beforeEach(async () => {
      test = await TestHost.start(mode, isolation());
    });
    afterEach(async () => {
      await test.end();
      expect(marks()).toEqual([]);
    });

    it('run as a user of their own, with a home of their own, and leave nothing', async () => {
      const line =
        'id -u; id -g; id -G; echo "$HOME"; echo "$TMPDIR"; stat -c %a:%u "$HOME" "$TMPDIR"; env | grep -c XDG_; echo kept >"$TMPDIR/file"; exec sleep 600';
      const [one, two] = await Promise.all([1, 2].map(async () => test.run(['/bin/sh', '-c', line])));
      if (one === undefined || two === undefined) throw new Error('not started');
      await Promise.all(
        [one, two].map(async ({ out }) => eventually('its word', () => out.length === 8, 10_000)),
      );
      for (const { out } of [one, two]) {
        const [uid = '', gid, groups, home = '', tmp, homeMode, tmpMode, xdg] = out;
        expect(Number(uid)).toBeGreaterThanOrEqual(AGENT_UIDS.first);
        expect(Number(uid)).toBeLessThanOrEqual(AGENT_UIDS.last);
        expect([gid, groups, tmp, homeMode, tmpMode, xdg]).toEqual([
          uid,
          uid,
          `${home}/tmp`,
          `700:${uid}`,
          `700:${uid}`,
          '0',
        ]);
      }
      expect(one.out[0]).not.toBe(two.out[0]);
      expect(marks()).toHaveLength(4);
      const [report] = await Promise.all(
        [one, two].map(async ({ agent }) => agent.stop({ mode: 'graceful', graceMs: 300 })),
      );
      expect(report).toMatchObject({
        signal: 'SIGTERM',
        report: { containment: mode.containment, proved: true, escalated: false },
      });
      expect(report?.report.evidence.map(({ kind }) => kind)).toContain('uid-empty');
      expect(report && gradeOf(report.report)).toBe('kernel');
      expect(existsSync(one.out[3] ?? '')).toBe(false);
      expect(processesOf(Number(one.out[0]))).toEqual([]);
      expect(marks()).toHaveLength(2);
    });

    it('have their variables, input, output by name, messages, exit code and signal as without', async () => {
      const message = { type: 'result', value: 1 };
      const line = `cat /dev/stdin; echo oops >/dev/stderr; echo '${JSON.stringify(message)}' >&3; printf '%s|' "$QUOTED" "$USER"; exit 7`;
      const QUOTED = `it's "one"\n$(two) \\ three`;
      const told = await test.run(['/bin/sh', '-c', line], {
        stdin: 'hello\n',
        env: { QUOTED, 'a.b': 'dots' },
      });
      expect(await told.agent.ended).toMatchObject({ exitCode: 7, signal: null, report: { proved: true } });
      expect(told.out.join('\n')).toBe(`hello\n${QUOTED}||`);
      expect(told).toMatchObject({ err: ['oops'], messages: [message], bad: [] });
      const named = await test.run(['/usr/bin/env'], { env: { 'a.b': 'dots', PWD: '/there' } });
      await named.agent.ended;
      expect(named.out).toEqual(expect.arrayContaining(['a.b=dots', 'PWD=/there']));
      const killed = await test.run(['/bin/sh', '-c', 'kill -USR1 $$']);
      expect(await killed.agent.ended).toMatchObject({ exitCode: null, signal: 'SIGUSR1' });
    });

    it('get a variable that loads code only once they are that user', async () => {
      const told = await test.run(['/bin/sh', '-c', 'id -u >&2'], {
        env: { LD_PRELOAD: '/nonexistent/belay.so' },
      });
      await told.agent.ended;
      // The loader complains about each program for which it is asked to preload: of id(1) and the shell, and setpriv(1) if
      // that were asked.
      expect(told.err.filter((line) => line.includes('belay.so')).length).toBe(2);
    });

    it('are told which of their own cannot be used by their user, and nothing runs', async () => {
      const hidden = join(open, 'hidden');
      mkdirSync(hidden, { mode: 0o700 });
      writeFileSync(join(hidden, 'program.sh'), '#!/bin/sh\ntouch "$RAN"\n', { mode: 0o755 });
      writeFileSync(join(open, 'program.sh'), '#!/bin/sh\ntouch "$RAN"\n', { mode: 0o700 });
      const env = { RAN: join(open, 'ran') };
      const inside = await test.run(['/bin/sh', '-c', 'touch "$RAN"'], { cwd: hidden, env });
      expect(await inside.agent.ended).toMatchObject({ exitCode: 126, startErrorCode: 'BAD_CWD' });
      for (const program of [join(open, 'program.sh'), join(hidden, 'program.sh')]) {
        const refused = await test.run([program], { env });
        expect(await refused.agent.ended).toMatchObject({
          exitCode: 126,
          startErrorCode: 'EACCES',
          report: { proved: true },
        });
      }
      await expect(test.run(['no-such-program'])).rejects.toMatchObject({
        code: 'SPAWN_FAILED',
        details: { reason: 'ENOENT' },
      });
      expect(existsSync(env.RAN)).toBe(false);
      expect(marks()).toHaveLength(2);
    });

    it('are not run when the isolation cannot be prepared', async () => {
      const [permit = ''] = marks().filter((name) => name.startsWith('start.'));
      rmSync(join(uidFolder, permit));
      const ran = join(open, 'ran');
      const refused = await test.run(['/bin/sh', '-c', `touch ${ran}`]);
      expect(await refused.agent.ended).toMatchObject({ exitCode: 126, startErrorCode: 'ISOLATION' });
      const [owner = ''] = marks().filter((name) => name.startsWith('owner.'));
      const { homes } = JSON.parse(readFileSync(join(uidFolder, owner), 'utf8')) as { homes: string };
      rmSync(homes, { recursive: true });
      writeFileSync(homes, '');
      await expect(test.run(['/bin/sh', '-c', `touch ${ran}`])).rejects.toMatchObject({
        code: 'SPAWN_FAILED',
        details: { reason: 'ISOLATION' },
      });
      expect(existsSync(ran)).toBe(false);
    });

    it('R12 do not outlive a stop when they leave the tree and strip every mark', async () => {
      const RECORD = join(open, 'orphan');
      const started = await test.ready('stripped-orphan.sh', { env: { RECORD } });
      const orphan = Number(readFileSync(RECORD, 'utf8'));
      // Under descent it may have been ended on sight by now.
      if (mode.containment !== 'descent') expect(isAlive(orphan)).toBe(true);
      const { report } = await started.agent.stop({ mode: 'graceful', graceMs: 50 });
      expect(isAlive(orphan)).toBe(false);
      expect(report).toMatchObject({ proved: true, survivors: [] });
      expect(gradeOf(report)).toBe('kernel');
    });

    it('do not outlive their own first process when that ends by itself', async () => {
      const RECORD = join(open, 'orphan');
      const line = `exec ${join(FIXTURES, 'stripped-orphan.sh')}`;
      const started = await test.ready(['/bin/sh', '-c', line], { env: { RECORD } });
      const orphan = Number(readFileSync(RECORD, 'utf8'));
      process.kill(started.agent.identity.pid, 'SIGKILL');
      expect(await started.agent.ended).toMatchObject({ signal: 'SIGKILL', report: { proved: true } });
      expect(isAlive(orphan)).toBe(false);
    });

    it('R12 are ended also when every generation leaves the session and no process is seen twice', async () => {
      const started = await test.ready('fork-loop.sh', { env: { SETSID: 'setsid', LIMIT: '200000' } });
      const { report } = await started.agent.stop({ mode: 'immediate', graceMs: 0 });
      const end = report.proved ? report : await started.agent.confirmed;
      expect(end).toMatchObject({ proved: true });
      expect(gradeOf(end)).toBe('kernel');
      expect(test.alive()).toEqual([]);
    });

    if (mode.containment === 'marks')
      it('R13 freeze and thaw with processes that stripped every mark', async () => {
        const RECORD = join(open, 'orphan');
        const started = await test.ready('stripped-orphan.sh', { env: { RECORD } });
        const orphan = Number(readFileSync(RECORD, 'utf8'));
        await started.agent.freeze();
        expect(procEntry(orphan)?.state).toBe('T');
        await started.agent.thaw();
        await eventually('it goes on', () => procEntry(orphan)?.state === 'S', 10_000);
        await started.agent.stop({ mode: 'graceful', graceMs: 50 });
        expect(isAlive(orphan)).toBe(false);
      });
  },
);

describeUsers.each(why === undefined ? expectedModes() : [])(
  'R17 when the worker of such agents dies, containment $name',
  (mode) => {
    let child: ChildProcess | undefined;
    let dataDir: string;
    let record: string;
    const workerId = 'w-own-users';
    const tag = randomUUID();
    beforeEach(() => {
      dataDir = mkdtempSync(join(tmpdir(), 'belay-own-users-'));
      record = join(open, 'orphan');
    });
    afterEach(async () => {
      if (child?.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await removeFolder(dataDir);
    });

    async function startProgram(more: object = {}): Promise<{
      pid: number;
      guardianPid: number;
      proofKey: string;
      orphan: number;
      home: string;
      exited: Promise<unknown>;
    }> {
      const plan = {
        options: {
          workerId,
          dataDir,
          containment: mode.containment,
          native: mode.native,
          watchMs: 60_000,
          ...isolation(),
        },
        agents: [
          { command: [join(FIXTURES, 'stripped-orphan.sh')] },
          { command: [join(FIXTURES, 'deaf.sh')] },
        ],
        env: { TEST_TAG: tag, RECORD: record },
        finally: 'stay',
        ...more,
      };
      child = spawn(process.execPath, [join(FIXTURES, 'host.cjs'), JSON.stringify(plan)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const { pid = 0 } = child;
      const exited = once(child, 'exit');
      const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
      const { guardianPid, pids, proofKey } = JSON.parse(String((await lines.next()).value)) as {
        guardianPid: number;
        pids: number[];
        proofKey: string;
      };
      const home = /(?:^|\0)HOME=([^\0]*)/.exec(readFileSync(`/proc/${pids[1]}/environ`, 'utf8'))?.[1] ?? '';
      expect(existsSync(home)).toBe(true);
      return { pid, exited, guardianPid, proofKey, orphan: Number(readFileSync(record, 'utf8')), home };
    }
    const left = (): number[] => aliveWithEnvironment(tag).map(({ pid }) => pid);

    it('its guardian ends by user the processes that stripped every mark, proves it and gives the users back', async () => {
      const { pid, guardianPid, orphan, home } = await startProgram();
      process.kill(pid, 'SIGKILL');
      await eventually('guardian gone', () => !isAlive(guardianPid), NOISE_MS);
      expect(isAlive(orphan)).toBe(false);
      expect(left()).toEqual([]);
      expect(existsSync(dirname(home))).toBe(false);
      expect(marks()).toEqual([]);
      const proofs: WorkerProof[] = [];
      await collectProofs(dataDir, async (proof) => void proofs.push(proof));
      expect(proofs).toMatchObject([
        { workerId, by: 'guardian', evidence: expect.arrayContaining(['uid-empty']) },
      ]);
      expect(proofs.map((proof) => gradeOf(reportOfProof(proof)))).toEqual(['kernel']);
    });

    it('R27 its guardian ends by user the processes that stripped every mark when the worker falls silent, and gives nothing back', async () => {
      const { pid, exited, guardianPid, orphan } = await startProgram({ finally: 'fence', silenceMs: 300 });
      process.kill(pid, 'SIGSTOP');
      await eventually('all dead', () => !isAlive(orphan) && left().length === 0, NOISE_MS);
      expect(procEntry(pid)?.state).toBe('T');
      // Owner, permit and two users: it may wake.
      expect(marks()).toHaveLength(4);
      process.kill(pid, 'SIGKILL');
      await exited;
      await eventually('guardian gone', () => procEntry(guardianPid) === undefined, NOISE_MS);
      expect(marks()).toEqual([]);
    });

    it('together with its guardian, the next worker ends by user the processes that are left', async () => {
      const { pid, exited, guardianPid, proofKey, orphan, home } = await startProgram();
      process.kill(guardianPid, 'SIGSTOP'); // so that it cannot start another one meanwhile
      process.kill(pid, 'SIGKILL');
      process.kill(guardianPid, 'SIGKILL');
      await exited;
      await eventually('guardian gone', () => procEntry(guardianPid) === undefined, NOISE_MS);
      expect(isAlive(orphan)).toBe(true);
      const checkSeal = knowing({ [workerId]: proofKey });
      const next = await TestHost.start(mode, { ...isolation(), dataDir, workerId: 'w-next', checkSeal });
      expect(next.host.reaped).toMatchObject([
        { workerId, proved: true, evidence: expect.arrayContaining(['uid-empty']) },
      ]);
      expect(isAlive(orphan)).toBe(false);
      expect(left()).toEqual([]);
      expect(existsSync(dirname(home))).toBe(false);
      await next.end();
    });
  },
);

describeUsers('a worker that is asked for agents with users of their own', () => {
  async function refusal(options: object): Promise<unknown> {
    const dataDir = mkdtempSync(join(tmpdir(), 'belay-refused-'));
    try {
      const host = await createProcessHost({
        workerId: 'w-refused',
        dataDir,
        containment: 'marks',
        native: 'off',
        ...isolation(),
        ...options,
      });
      await host.close();
      return 'started';
    } catch (error) {
      return error;
    } finally {
      expect(readdirSync(join(dataDir, 'hosts'))).toEqual([]);
      await removeFolder(dataDir);
    }
  }

  it('does not start where it cannot give them, and gives advice', async () => {
    const code = 'INVALID_SETTINGS';
    expect(await refusal({ agentUids: undefined })).toMatchObject({
      code,
      message: expect.stringContaining('BELAY_AGENT_UIDS'),
    });
    expect(await refusal({ isolation: 'namespace' })).toMatchObject({
      code,
      message: expect.stringContaining('BELAY_ISOLATION=user'),
    });
    expect(await refusal({ agentUids: { first: 65_500, last: 65_534 } })).toMatchObject({
      code,
      message: expect.stringMatching(/nobody of \/etc\/passwd has one of the user ids/),
    });
    mkdirSync(uidFolder, { mode: 0o777 });
    chmodSync(uidFolder, 0o777);
    expect(await refusal({})).toMatchObject({
      code,
      message: expect.stringContaining('is not a directory that only root can write'),
    });
  });

  it('does not start on a data directory that others may read', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'belay-refused-'));
    chmodSync(dataDir, 0o755);
    const made = createProcessHost({ workerId: 'w-open', dataDir, containment: 'marks', ...isolation() });
    await expect(made).rejects.toMatchObject({
      code: 'INVALID_SETTINGS',
      message: expect.stringContaining(`chmod 700 ${dataDir}`),
    });
    await removeFolder(dataDir);
  });
});

describeUsers('a fleet whose agents have users of their own', () => {
  let fleet: Fleet;
  beforeAll(async () => {
    const env = {
      BELAY_ISOLATION: 'user',
      BELAY_AGENT_UIDS: `${AGENT_UIDS.first}-${AGENT_UIDS.last}`,
      BELAY_WORK_DIR: '/',
      BELAY_GRACE_MS: '300',
    };
    fleet = await startFleet({ workers: 1, env });
  });
  afterAll(async () => fleet.stop());

  it('R51 says so in the worker’s record, armed and the receipt, and runs a drill', async () => {
    const [worker] = (await fleet.client.workers()).items;
    expect(worker?.isolation).toBe('user');
    expect((await fleet.client.armed()).workers).toMatchObject([{ armed: true, isolation: 'user' }]);
    const { execution } = await fleet.client.createExecution({
      name: 'own-user',
      nodes: [{ id: 'a', run: { command: [`id -u; ls ${fleet.dir}; exec sleep 600`], shell: true } }],
    });
    const lines = await until(async () => {
      const { items } = await fleet.client.agents({ executionId: execution.id });
      const found = items[0] === undefined ? [] : (await fleet.client.logs(items[0].id)).lines;
      return found.length === 2 && found.map(({ line }) => line);
    }, 'its words');
    expect(lines).toEqual([expect.stringMatching(ONE_OF_OURS), expect.stringMatching(/Permission denied$/)]);
    const { receipt } = await fleet.client.stop(execution.id);
    expect(receipt).toMatchObject({
      grade: 'kernel',
      targets: [{ outcome: 'killed', report: { proved: true } }],
    });
    expect(receipt?.targets[0]?.report?.evidence.map(({ kind }) => kind)).toContain('uid-empty');
    expect(processesOf(Number(lines[0]))).toEqual([]);
    expect(await fleet.client.drill()).toMatchObject({ passed: true });
  });
});
