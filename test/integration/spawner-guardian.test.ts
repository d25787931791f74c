import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { gradeOf } from '#libs/contracts';
import { collectProofs, reportOfProof, type ReapedWorker, type WorkerProof } from '#libs/spawner';
import { NOISE_MS } from '../support/wait';
import {
  aliveWithEnvironment,
  cgroupsNamed,
  commandBelow,
  eventually,
  expectedModes,
  FIXTURES,
  isAlive,
  knowing,
  namespaceModes,
  procEntry,
  TestHost,
} from '../support/proc';
import { removeFolder } from '../support/remove-folder';

/** The canaries: one for every way to be hard to kill. */
const CANARIES = ['polite', 'deaf-with-grandchildren', 'setsid-grandchild', 'double-fork', 'disowned'];

interface HostProgram {
  readonly pid: number;
  readonly said: { guardianPid: number; pids: number[]; containment: string; proofKey: string };
  next(): Promise<Record<string, unknown>>;
  readonly exited: Promise<number | null>;
}

jest.setTimeout(30_000);

describe.each([...expectedModes(), ...namespaceModes()])('when a worker dies, containment $name', (mode) => {
  const { containment } = mode;
  let dataDir: string;
  let tag: string;
  let workerId: string;
  const started: number[] = [];

  beforeEach(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'belay-guardian-'));
    tag = randomUUID();
    workerId = `w-${tag}`;
  });
  afterEach(async () => {
    for (const pid of started.splice(0))
      if (procEntry(pid)?.parent === process.pid) process.kill(pid, 'SIGKILL');
    // The guardian of a killed worker still writes its proof there, and ends by itself.
    await removeFolder(dataDir);
    expect(alive()).toEqual([]);
    expect(cgroupsNamed(workerId)).toEqual([]);
  });

  const alive = () => aliveWithEnvironment(`TEST_TAG=${tag}`);
  /** Proofs about a dead worker are kept for another worker to report; everything else is removed. */
  const files = () => readdirSync(join(dataDir, 'hosts')).filter((name) => !name.endsWith('.proof'));

  async function startProgram(
    then: string,
    fixtures: readonly string[],
    more: object = {},
  ): Promise<HostProgram> {
    const plan = {
      options: { workerId, dataDir, containment, native: mode.native },
      agents: fixtures.map((name) => ({ command: [join(FIXTURES, `${name}.sh`)] })),
      env: { TEST_TAG: tag },
      finally: then,
      ...more,
    };
    const child = spawn(process.execPath, [join(FIXTURES, 'host.cjs'), JSON.stringify(plan)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (child.pid === undefined) throw new Error('the host program did not start');
    started.push(child.pid);
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const next = async () => JSON.parse(String((await lines.next()).value)) as Record<string, unknown>;
    return { pid: child.pid, said: (await next()) as unknown as HostProgram['said'], next, exited };
  }

  describe('R17 no orphans', () => {
    it('ends every tree after the kill -9 of its worker', async () => {
      const worker = await startProgram('stay', CANARIES);
      expect(alive().length).toBeGreaterThan(CANARIES.length);
      process.kill(worker.pid, 'SIGKILL');
      await eventually('all dead', () => alive().length === 0, NOISE_MS);
      await eventually('guardian gone', () => !isAlive(worker.said.guardianPid), NOISE_MS);
      expect(files()).toEqual([]);
    });

    it('ends a child that stripped every mark and still has its parent', async () => {
      const worker = await startProgram('stay', ['stripped-child']);
      const [first = 0] = worker.said.pids;
      const leader = containment === 'namespace' ? commandBelow(first) : first;
      const children = readdirSync('/proc')
        .map(Number)
        .filter((pid) => pid > 0 && procEntry(pid)?.parent === leader);
      expect(children).toHaveLength(1);
      process.kill(worker.pid, 'SIGKILL');
      await eventually('its end', () => children.every((pid) => !isAlive(pid)), 5_000);
      await eventually('guardian gone', () => !isAlive(worker.said.guardianPid), 5_000);
      expect(files()).toEqual([]);
    });

    if (containment === 'descent')
      it('proves by the kernel that an orphan without any mark died too, without an earlier look', async () => {
        const record = join(dataDir, 'orphan');
        const worker = await startProgram('stay', ['stripped-orphan', ...CANARIES], {
          options: { workerId, dataDir, containment, native: mode.native, watchMs: 60_000 },
          env: { TEST_TAG: tag, RECORD: record },
        });
        const orphan = Number(readFileSync(record, 'utf8'));
        expect(isAlive(orphan)).toBe(true);
        process.kill(worker.pid, 'SIGKILL');
        await eventually('guardian gone', () => !isAlive(worker.said.guardianPid), NOISE_MS);
        expect(isAlive(orphan)).toBe(false);
        expect(alive()).toEqual([]);
        const proofs: WorkerProof[] = [];
        await collectProofs(dataDir, async (proof) => void proofs.push(proof));
        expect(proofs).toMatchObject([{ workerId, by: 'guardian' }]);
        expect(proofs.map((proof) => gradeOf(reportOfProof(proof)))).toEqual(['kernel']);
      });

    it('guards on after its guardian was killed', async () => {
      const worker = await startProgram('stay', ['deaf']);
      process.kill(worker.said.guardianPid, 'SIGKILL');
      const isGuardian = (pid: number) => procEntry(pid)?.parent === worker.pid;
      const guardians = () =>
        readdirSync('/proc')
          .map(Number)
          .filter(
            (pid) => pid > 0 && isAlive(pid) && isGuardian(pid) && procEntry(pid)?.command.startsWith('node'),
          );
      await eventually(
        'another guardian',
        () => guardians().some((pid) => pid !== worker.said.guardianPid),
        NOISE_MS,
      );
      // It counts from the time at which it watches, not from its start.
      await new Promise((resolve) => setTimeout(resolve, 500));
      process.kill(worker.pid, 'SIGKILL');
      await eventually('all dead', () => alive().length === 0, 1_000 + NOISE_MS);
      await eventually('no record', () => files().length === 0, NOISE_MS);
      expect(alive()).toEqual([]);
    });

    it('survives the signals that end a worker', async () => {
      const worker = await startProgram('stay', ['polite']);
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const)
        process.kill(worker.said.guardianPid, signal);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(isAlive(worker.said.guardianPid)).toBe(true);
      process.kill(worker.pid, 'SIGTERM'); // a plain program dies of it
      await eventually('all dead', () => alive().length === 0, NOISE_MS);
      await eventually('no record', () => files().length === 0, NOISE_MS);
    });

    it('kills when the worker falls silent for longer than the fence allows, though it lives', async () => {
      const worker = await startProgram('fence', CANARIES, { silenceMs: 300 });
      process.kill(worker.pid, 'SIGSTOP');
      await eventually('all dead', () => alive().length === 0, NOISE_MS);
      // A stop signal takes effect once the process gets a core.
      await eventually('the stop', () => procEntry(worker.pid)?.state !== 'R', NOISE_MS);
      expect(procEntry(worker.pid)?.state).toBe('T');
      process.kill(worker.pid, 'SIGKILL');
      await eventually('no record', () => files().length === 0, NOISE_MS);
    });

    it('leaves to the next start the processes of a worker killed together with its guardian, found by identity', async () => {
      const worker = await startProgram('stay', CANARIES);
      process.kill(worker.said.guardianPid, 'SIGSTOP'); // so that it cannot start another one meanwhile
      process.kill(worker.pid, 'SIGKILL');
      process.kill(worker.said.guardianPid, 'SIGKILL');
      await worker.exited;
      expect(alive().length).toBeGreaterThan(CANARIES.length);
      const checkSeal = knowing({ [workerId]: worker.said.proofKey });
      const next = await TestHost.start(mode, { dataDir, workerId: `next-${tag}`, checkSeal });
      expect(next.host.reaped.map(({ unproved }) => unproved)).toEqual([undefined]);
      expect(next.host.reaped).toMatchObject([{ workerId, containment, proved: true }]);
      expect(next.host.reaped[0]?.processes.length).toBeGreaterThan(CANARIES.length);
      expect(alive()).toEqual([]);
      await next.end();
    });

    it('R17 R51 is proved again by the next start where the proof could not be stored', async () => {
      const worker = await startProgram('stay', CANARIES);
      process.kill(worker.said.guardianPid, 'SIGSTOP');
      process.kill(worker.pid, 'SIGKILL');
      process.kill(worker.said.guardianPid, 'SIGKILL');
      await worker.exited;
      const checkSeal = knowing({ [workerId]: worker.said.proofKey });
      const onReaped = async (): Promise<void> => Promise.reject(new Error('the server was just killed'));
      const first = await TestHost.start(mode, { dataDir, workerId: `next-${tag}`, checkSeal, onReaped });
      expect(first.host.reaped).toMatchObject([{ workerId, proved: true }]);
      expect(alive()).toEqual([]);
      await first.host.close();
      const stored: ReapedWorker[] = [];
      const second = await TestHost.start(mode, {
        dataDir,
        workerId: `last-${tag}`,
        checkSeal,
        onReaped: async (reaped) => void stored.push(reaped),
      });
      expect(stored).toMatchObject([{ workerId, containment, proved: true }]);
      expect(stored).toEqual(second.host.reaped);
      // Once it is stored, it is over.
      expect(files().filter((name) => name.startsWith(workerId))).toEqual([]);
      await second.end();
    });

    // The init of a namespace ends only once that guardian, its parent, has reaped what was inside: until then nothing is proved.
    const isStuck = containment === 'namespace' && mode.native === 'auto';
    if (!isStuck)
      it('R17 R26 leaves the next worker with the same id alone, however late it acts', async () => {
        const worker = await startProgram('stay', ['polite']);
        const { guardianPid: late, proofKey } = worker.said;
        process.kill(late, 'SIGSTOP');
        process.kill(worker.pid, 'SIGKILL');
        await worker.exited;
        const checkSeal = knowing({ [workerId]: proofKey });
        const next = await TestHost.start(mode, { dataDir, workerId, checkSeal });
        expect(next.host.reaped).toMatchObject([{ workerId, proved: true }]);
        const { agent } = await next.ready('polite.sh');
        const before = readdirSync(join(dataDir, 'hosts'));
        process.kill(late, 'SIGCONT');
        await eventually('the late guardian gone', () => !isAlive(late), NOISE_MS);
        expect(readdirSync(join(dataDir, 'hosts'))).toEqual(before);
        const { report } = await agent.stop({ mode: 'graceful', graceMs: NOISE_MS });
        // Nobody ended it before.
        expect([report.proved, report.signals.some(({ signal }) => signal === 'SIGTERM')]).toEqual([
          true,
          true,
        ]);
        await next.end();
      });

    it('R17 R26 a late reaper leaves the next worker with the same id alone', async () => {
      const worker = await startProgram('stay', ['polite']);
      const { guardianPid, proofKey } = worker.said;
      process.kill(guardianPid, 'SIGKILL');
      process.kill(worker.pid, 'SIGKILL');
      await worker.exited;
      const knows = knowing({ [workerId]: proofKey });
      let next: TestHost | undefined;
      const told: string[] = [];
      try {
        // While it waits for the server to check the record, the next worker reaps these trees, and starts an agent.
        await collectProofs(dataDir, async (proof) => void told.push(proof.workerId), {
          checkSeal: async (seal) => {
            next = await TestHost.start(mode, { dataDir, workerId, checkSeal: knows });
            await next.ready('polite.sh');
            return knows(seal);
          },
        });
        const [agent] = next?.host.agents() ?? [];
        expect(next?.host.reaped).toMatchObject([{ workerId, proved: true }]);
        expect([told, files()]).toEqual([[], [`${workerId}.json`, `${workerId}.pipes`]]);
        const report = (await agent?.stop({ mode: 'graceful', graceMs: NOISE_MS }))?.report;
        expect([report?.proved, report?.signals.some(({ signal }) => signal === 'SIGTERM')]).toEqual([
          true,
          true,
        ]);
      } finally {
        await next?.host.close();
      }
    });

    it('leaves a worker alone whose process lives', async () => {
      const worker = await startProgram('stay', ['polite']);
      const next = await TestHost.start(mode, { dataDir, workerId: `next-${tag}` });
      expect(next.host.reaped).toEqual([]);
      // In a namespace also its init, and the command's parent.
      expect(alive().length).toBe(containment === 'namespace' ? 3 : 1);
      await next.host.close();
      process.kill(worker.pid, 'SIGKILL');
      await eventually('all dead', () => alive().length === 0, NOISE_MS);
      await eventually('no record', () => files().length === 0, NOISE_MS);
    });
  });

  describe('R27 the fence', () => {
    let test: TestHost;
    beforeEach(async () => {
      test = await TestHost.start(mode, { dataDir, workerId });
      await test.ready('deaf.sh');
    });
    afterEach(async () => test.host.close());

    it('counts from the sending of the heartbeat, not from its answer', async () => {
      test.host.armFence(60_000, performance.now() - 60_000);
      await eventually('the tree dead', () => test.alive().length === 0, 10_000);
      expect(test.host.guardianRestarts).toBe(0);
    });

    it('is not put off by the death of the guardian', async () => {
      const armedAt = performance.now();
      test.host.armFence(60_000, armedAt - 59_700);
      const { guardianPid: pid = 0 } = test.host;
      process.kill(pid, 'SIGSTOP');
      await eventually('the fence due', () => performance.now() - armedAt > 300, 10_000);
      expect(test.alive().length).toBeGreaterThan(0);
      process.kill(pid, 'SIGKILL');
      await eventually('the tree dead', () => test.alive().length === 0, 10_000);
      expect(test.host.guardianRestarts).toBe(1);
    });

    it('is read anew by a guardian that was itself stopped, before it acts on an old one', async () => {
      const { guardianPid: pid = 0 } = test.host;
      test.host.armFence(1_000, performance.now());
      expect(await test.host.guardianAnswers()).toBe(true);
      process.kill(pid, 'SIGSTOP');
      const stoppedAt = performance.now();
      await eventually('the first fence due', () => performance.now() - stoppedAt > 1_300, 10_000);
      test.host.armFence(60_000, performance.now());
      process.kill(pid, 'SIGCONT');
      for (let answered = false; !answered;) answered = await test.host.guardianAnswers();
      const answeredAt = performance.now();
      await eventually('time to act on it', () => performance.now() - answeredAt > 300, 10_000);
      expect(test.alive().length).toBeGreaterThan(0);
    });
  });

  it('R55 the guardian answers within 500 ms, or counts as absent: stopped, killed, and the next one', async () => {
    const test = await TestHost.start(mode, { dataDir, workerId });
    const { host } = test;
    expect(await host.guardianAnswers()).toBe(true);
    const { guardianPid: pid = 0 } = host;
    process.kill(pid, 'SIGSTOP');
    const askedAt = performance.now();
    expect(await Promise.all([host.guardianAnswers(), host.guardianAnswers()])).toEqual([false, false]);
    expect(performance.now() - askedAt).toBeLessThan(1_500 + NOISE_MS);
    expect(host.guardianPid).toBe(pid);
    process.kill(pid, 'SIGCONT');
    expect(await host.guardianAnswers()).toBe(true);
    process.kill(pid, 'SIGKILL');
    await eventually('no guardian', () => !isAlive(pid), NOISE_MS);
    await eventually(
      'another guardian',
      () => host.guardianRestarts === 1 && host.guardianPid !== pid,
      NOISE_MS,
    );
    for (let answered = false; !answered;) answered = await host.guardianAnswers();
    await test.end();
  });

  it('R18 a program that ends its last agent and closes the host exits', async () => {
    const worker = await startProgram('close', ['leaves-children']);
    const { closedAt } = await worker.next();
    expect(await worker.exited).toBe(0);
    expect(Date.now() - Number(closedAt)).toBeLessThan(1_000 + NOISE_MS);
    await eventually('guardian gone', () => !isAlive(worker.said.guardianPid), NOISE_MS);
  });
});
