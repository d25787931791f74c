import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { gradeOf, type Grade, type StopReport } from '#libs/contracts';
import { collectProofs, reportOfProof, type Escapee, type WorkerProof } from '#libs/spawner';
import { NOISE_MS } from '../support/wait';
import {
  eventually,
  expectedModes,
  FIXTURES,
  isAlive,
  knowing,
  ownCgroup,
  procEntry,
  TestHost,
} from '../support/proc';

jest.setTimeout(60_000);

const compiler = spawnSync('cc', ['--version'], { stdio: 'ignore' }).status === 0;
if (!compiler) process.stdout.write('A freeze of a chain of forks is not tested here: there is no cc.\n');
const immediate = { mode: 'immediate', graceMs: 0 } as const;

/**
 * An agent leaves an orphan that moved to another cgroup, left the session and removed every mark. Where the guardian starts
 * the agents the orphan dies with them, in every way in which a tree ends. Elsewhere it may live: then no proof has the grade
 * `kernel`.
 */
describe.each(expectedModes())(
  'a process that moved to another cgroup and hides, containment $name',
  (mode) => {
    const { containment, native } = mode;
    const isHeld = native === 'auto' && containment !== 'marks';
    const env = (): Record<string, string> => ({
      RECORD: record,
      ...(containment === 'cgroup' ? { CGROUP_PROCS: join(ownCgroup() ?? '/nowhere', 'cgroup.procs') } : {}),
    });
    let dataDir: string;
    let record: string;
    let workerId: string;
    let orphans: number[];
    let programs: number[];
    let started: TestHost | undefined;

    beforeEach(() => {
      dataDir = mkdtempSync(join(tmpdir(), 'belay-moved-'));
      record = join(dataDir, 'orphan');
      workerId = `w-${randomUUID()}`;
      orphans = [];
      programs = [];
    });
    afterEach(async () => {
      await started?.host.close();
      started = undefined;
      for (const pid of programs) if (procEntry(pid)?.parent === process.pid) process.kill(pid, 'SIGKILL');
      for (const pid of orphans) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
      rmSync(dataDir, { recursive: true, force: true });
    });

    function readOrphan(): number {
      const pid = Number(readFileSync(record, 'utf8'));
      orphans.push(pid);
      return pid;
    }

    /** A worker whose own looks come too late for the test. */
    const host = async (): Promise<TestHost> =>
      (started = await TestHost.start(mode, { dataDir, workerId, watchMs: 60_000 }));

    async function startProgram(then: string, more: object = {}) {
      const plan = {
        options: { workerId, dataDir, containment, native, watchMs: 60_000 },
        agents: ['stripped-orphan', 'deaf'].map((name) => ({ command: [join(FIXTURES, `${name}.sh`)] })),
        env: env(),
        finally: then,
        ...more,
      };
      const child = spawn(process.execPath, [join(FIXTURES, 'host.cjs'), JSON.stringify(plan)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      if (child.pid === undefined) throw new Error('the host program did not start');
      programs.push(child.pid);
      const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      const said = JSON.parse(String((await lines.next()).value)) as {
        guardianPid: number;
        pids: number[];
        proofKey: string;
      };
      const orphan = readOrphan();
      expect(isAlive(orphan)).toBe(true);
      return { pid: child.pid, exited, orphan, ...said };
    }

    const proofs = async (): Promise<WorkerProof[]> => {
      const told: WorkerProof[] = [];
      await collectProofs(dataDir, async (proof) => void told.push(proof));
      return told;
    };

    /** The one result that must never occur: proved by the kernel, and alive. */
    function expectTruth(orphan: number, report: StopReport): void {
      const seen: { alive: boolean; grade: Grade | undefined } = {
        alive: isAlive(orphan),
        grade: gradeOf(report),
      };
      expect(seen).toEqual(
        isHeld ? { alive: false, grade: 'kernel' } : { alive: seen.alive, grade: 'marks' },
      );
    }

    it('R51 R12 does not outlive a stop that is proved by the kernel', async () => {
      const test = await host();
      const { agent } = await test.ready('stripped-orphan.sh', { env: env() });
      const orphan = readOrphan();
      expect(isAlive(orphan)).toBe(true);
      const { report } = await agent.stop({ mode: 'graceful', graceMs: 100 });
      expectTruth(orphan, report);
      if (containment === 'cgroup') expect(report.evidence.map(({ kind }) => kind)).toContain('cgroup-empty');
      await test.end();
    });

    it('R51 R12 does not outlive the natural end of its first process', async () => {
      const test = await host();
      const { agent } = await test.ready('stripped-orphan.sh', { env: env() });
      const orphan = readOrphan();
      process.kill(agent.identity.pid, 'SIGKILL');
      expectTruth(orphan, (await agent.ended).report);
      await test.end();
    });

    if (isHeld)
      it('R51 is ended on sight and reported, and an orphan in the agent’s own cgroup is not', async () => {
        const told: Escapee[] = [];
        const test = await TestHost.start(mode, { dataDir, workerId, onEscapee: (one) => told.push(one) });
        const { agent } = await test.ready('stripped-orphan.sh', { env: env() });
        const orphan = readOrphan();
        await eventually('its end', () => !isAlive(orphan), NOISE_MS);
        await eventually('the news of it', () => told.length > 0, NOISE_MS);
        expect(told).toMatchObject([{ pid: orphan, killed: true }]);
        expect(isAlive(agent.identity.pid)).toBe(true);
        if (containment === 'cgroup') {
          const { CGROUP_PROCS: _, ...stays } = env();
          const other = await test.ready('stripped-orphan.sh', { env: stays });
          const daemon = readOrphan();
          expect((await agent.stop(immediate)).report).toMatchObject({ proved: true });
          // Its only sign is its cgroup, and another agent's process may have moved in there.
          const { report } = await (await test.ready('polite.sh')).agent.stop(immediate);
          expect([isAlive(daemon), gradeOf(report)]).toEqual([true, 'kernel']);
          expectTruth(daemon, (await other.agent.stop(immediate)).report);
        }
        await test.end();
      });

    const sizeOf = (file: string): number => (existsSync(file) ? statSync(file).size : 0);

    /** How much a file grew in a time in which every running process would have written to it. */
    async function growth(file: string): Promise<number> {
      const before = sizeOf(file);
      await new Promise((resolve) => setTimeout(resolve, 200));
      return sizeOf(file) - before;
    }

    /** It moves out with its environment and a parent: nothing ends it on sight. */
    const MOVED = [
      '/bin/sh',
      '-c',
      `setsid /bin/sh -c '[ -z "$CGROUP_PROCS" ] || echo $$ >"$CGROUP_PROCS"
         while :; do echo beat >>"$RECORD"; sleep 0.01; done' &
       echo ready; while :; do sleep 1; done`,
    ];

    it('R22 R13 stands still in a freeze, goes on after the thaw, and is killed while it is frozen', async () => {
      const test = await host();
      const { agent } = await test.ready(MOVED, { env: env() });
      const goesOn = async (): Promise<number> => {
        const size = sizeOf(record);
        return eventually('it writes', () => sizeOf(record) > size, NOISE_MS);
      };
      await goesOn();
      await agent.freeze();
      expect(await growth(record)).toBe(0);
      await agent.thaw();
      await goesOn();
      await agent.freeze();
      expect(await growth(record)).toBe(0);
      expect((await agent.stop(immediate)).report).toMatchObject({ proved: true, survivors: [] });
      expect(test.alive()).toEqual([]);
      await test.end();
    });

    it('R22 R13 stands still in a freeze, and ends by SIGTERM with the others of its tree', async () => {
      const test = await host();
      const { agent } = await test.ready(MOVED, { env: env() });
      await eventually('it writes', () => sizeOf(record) > 0, NOISE_MS);
      await agent.freeze();
      const { report, signal } = await agent.stop({ mode: 'graceful', graceMs: 30_000 });
      expect([report.proved, signal]).toEqual([true, 'SIGTERM']);
      expect(report.signals.filter(({ signal: sent }) => sent === 'SIGKILL')).toEqual([]);
      await test.end();
    });

    /** Each generation leaves the session, writes a byte and is replaced by its child: hardly one is seen twice. */
    const CHAIN = [
      '/bin/sh',
      '-c',
      '"$CHAIN" "$RECORD" "$RECORD.over" & echo ready; while :; do sleep 1; done',
    ];

    (compiler ? it : it.skip)(
      'R22 a chain of forks is never said to stand still while it goes on',
      async () => {
        const chain = join(dataDir, 'chain');
        execFileSync('cc', ['-O2', '-o', chain, join(FIXTURES, 'fork-chain.c')]);
        const test = await host();
        const { agent } = await test.ready(CHAIN, { env: { ...env(), CHAIN: chain } });
        try {
          await eventually('it writes', () => sizeOf(record) > 0, NOISE_MS);
          const answer = await agent.freeze().then(
            () => 'still',
            (error: { code?: string }) => error.code,
          );
          expect([answer, answer === 'still' ? await growth(record) : 0]).toEqual([
            containment === 'cgroup' ? 'still' : expect.stringMatching(/^(still|TIMEOUT)$/),
            0,
          ]);
          await agent.thaw();
        } finally {
          writeFileSync(`${record}.over`, '');
        }
        expect((await agent.stop(immediate)).report.proved).toBe(true);
        await test.end();
      },
    );

    if (isHeld)
      it('R22 R51 one that bears no sign of its agent is ended by the freeze, which nothing else would stop', async () => {
        const test = await host();
        const { agent } = await test.ready('stripped-orphan.sh', { env: env() });
        const orphan = readOrphan();
        await agent.freeze();
        expect(isAlive(orphan)).toBe(false);
        expect((await agent.stop(immediate)).report.proved).toBe(true);
        await test.end();
      });

    it('R17 R51 does not outlive the kill -9 of its worker, by the kernel’s word', async () => {
      const worker = await startProgram('stay');
      process.kill(worker.pid, 'SIGKILL');
      await eventually('guardian gone', () => !isAlive(worker.guardianPid), NOISE_MS);
      const told = await proofs();
      expect(told).toMatchObject([{ workerId, by: 'guardian' }]);
      for (const proof of told) expectTruth(worker.orphan, reportOfProof(proof));
    });

    it('R17 R51 when its guardian was killed before its worker, no proof is the kernel’s', async () => {
      const worker = await startProgram('stay');
      process.kill(worker.guardianPid, 'SIGKILL');
      const guardian = () => childrenOf(worker.pid).find((pid) => procEntry(pid)?.command.startsWith('node'));
      await eventually(
        'another guardian',
        () => (guardian() ?? worker.guardianPid) !== worker.guardianPid,
        NOISE_MS,
      );
      await new Promise((resolve) => setTimeout(resolve, 500)); // it counts from the time at which it watches
      const second = guardian() ?? 0;
      process.kill(worker.pid, 'SIGKILL');
      await eventually('guardian gone', () => !isAlive(second), NOISE_MS);
      const told = await proofs();
      expect(told.map((proof) => gradeOf(reportOfProof(proof)))).toEqual(['marks']);
    });

    it('R27 R51 does not outlive the fence of a worker that is stopped, by the kernel’s word', async () => {
      const worker = await startProgram('fence', { silenceMs: 300 });
      process.kill(worker.pid, 'SIGSTOP');
      await eventually(
        'a proof',
        () => readdirHosts(dataDir).some((name) => name.endsWith('.proof')),
        NOISE_MS,
      );
      const told = await proofs();
      expect(told).toMatchObject([{ workerId, by: 'guardian' }]);
      expect(told[0]?.leaders?.map(({ pid }) => pid)).toEqual(expect.arrayContaining(worker.pids));
      for (const proof of told) expectTruth(worker.orphan, reportOfProof(proof));
      process.kill(worker.pid, 'SIGKILL');
      await eventually('no record', () => !readdirHosts(dataDir).includes(`${workerId}.json`), NOISE_MS);
    });

    it('R43 R51 does not outlive the drain of its worker, by the kernel’s word', async () => {
      const test = await host();
      await test.ready('stripped-orphan.sh', { env: env() });
      const orphan = readOrphan();
      await test.host.close({ keepProof: true });
      const told = await proofs();
      expect(told).toMatchObject([{ workerId, by: 'worker' }]);
      for (const proof of told) expectTruth(orphan, reportOfProof(proof));
    });

    it('R17 R51 after worker and guardian died the next worker proves nothing by the kernel', async () => {
      const worker = await startProgram('stay');
      process.kill(worker.guardianPid, 'SIGSTOP'); // so that it cannot start another one meanwhile
      process.kill(worker.pid, 'SIGKILL');
      process.kill(worker.guardianPid, 'SIGKILL');
      await worker.exited;
      const checkSeal = knowing({ [workerId]: worker.proofKey });
      const next = await TestHost.start(mode, { dataDir, workerId: `next-${workerId}`, checkSeal });
      expect(next.host.reaped).toMatchObject([{ workerId, proved: true }]);
      const grades = next.host.reaped.map((reaped) => gradeOf(reportOfProof({ ...reaped, by: 'reaper' })));
      expect(grades).toEqual(['marks']);
      await next.end();
    });
  },
);

const readdirHosts = (dataDir: string): string[] => readdirSync(join(dataDir, 'hosts'));

const childrenOf = (parent: number): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && isAlive(pid) && procEntry(pid)?.parent === parent);
