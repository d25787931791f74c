import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { gradeOf } from '#libs/contracts';
import { collectProofs, reportOfProof, type WorkerProof } from '#libs/spawner';
import { NOISE_MS } from '../support/wait';
import {
  aliveWithEnvironment,
  cgroupsNamed,
  eventually,
  expectedModes,
  FIXTURES,
  isAlive,
  knowing,
  ownCgroup,
  procEntry,
  TestHost,
} from '../support/proc';

jest.setTimeout(30_000);

const modes = expectedModes().filter(({ containment }) => containment === 'cgroup');
if (modes.length === 0) process.stdout.write('Hostile cgroups are not tested here: none can be had.\n');
const inCgroups = modes.length === 0 ? describe.skip : describe;
const cases = (modes.length === 0 ? expectedModes().slice(0, 1) : modes).flatMap((mode) =>
  ['threaded-cgroup', 'deep-cgroup'].map((fixture) => ({ mode, fixture, name: mode.name })),
);

/** One agent rearranges its cgroup so that its processes cannot be listed. That must not save any process from a kill. */
inCgroups.each(cases)(
  'an agent that makes its cgroup unreadable ($fixture, containment $name)',
  ({ mode, fixture }) => {
    let dataDir: string;
    let tag: string;
    let workerId: string;
    const started: number[] = [];

    beforeEach(() => {
      dataDir = mkdtempSync(join(tmpdir(), 'belay-hostile-'));
      tag = randomUUID();
      workerId = `w-${tag}`;
    });
    afterEach(() => {
      for (const pid of started.splice(0))
        if (procEntry(pid)?.parent === process.pid) process.kill(pid, 'SIGKILL');
      const left = alive();
      // So that a failure of one test leaves nothing for the next.
      for (const { pid } of left) process.kill(pid, 'SIGKILL');
      rmSync(dataDir, { recursive: true, force: true });
      expect(left).toEqual([]);
      expect(cgroupsNamed(workerId)).toEqual([]);
    });

    const alive = () => aliveWithEnvironment(`TEST_TAG=${tag}`);
    const files = () => readdirSync(join(dataDir, 'hosts')).filter((name) => !name.endsWith('.proof'));

    async function startWorker(then: string, more: object = {}) {
      const plan = {
        options: { workerId, dataDir, containment: 'cgroup', native: mode.native },
        agents: [fixture, 'deaf'].map((name) => ({ command: [join(FIXTURES, `${name}.sh`)] })),
        env: { TEST_TAG: tag },
        finally: then,
        ...more,
      };
      const child = spawn(process.execPath, [join(FIXTURES, 'host.cjs'), JSON.stringify(plan)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      if (child.pid === undefined) throw new Error('the host program did not start');
      started.push(child.pid);
      const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      const said = JSON.parse(String((await lines.next()).value)) as {
        guardianPid: number;
        pids: number[];
        proofKey: string;
      };
      expect(said.pids.map(isAlive)).toEqual([true, true]);
      return { pid: child.pid, exited, ...said };
    }

    it('R17 saves no process from the kill -9 of their worker, and with libc the kernel proves it', async () => {
      const worker = await startWorker('stay');
      process.kill(worker.pid, 'SIGKILL');
      await eventually('guardian gone', () => !isAlive(worker.guardianPid), NOISE_MS);
      expect(alive()).toEqual([]);
      expect(files()).toEqual([]);
      const proofs: WorkerProof[] = [];
      await collectProofs(dataDir, async (proof) => void proofs.push(proof));
      expect(proofs).toMatchObject([{ workerId, by: 'guardian' }]);
      // Without libc nothing sees which processes have left the cgroup.
      const grade = mode.native === 'auto' ? 'kernel' : 'marks';
      expect(proofs.map((proof) => gradeOf(reportOfProof(proof)))).toEqual([grade]);
      expect(proofs[0]?.processes.map(({ pid }) => pid)).toEqual(expect.arrayContaining(worker.pids));
    });

    it('R27 saves no process from the fence of a worker that is stopped', async () => {
      const worker = await startWorker('fence', { silenceMs: 300 });
      process.kill(worker.pid, 'SIGSTOP');
      await eventually('all dead', () => alive().length === 0, NOISE_MS);
      expect(procEntry(worker.pid)?.state).toBe('T');
      process.kill(worker.pid, 'SIGKILL');
      await eventually('no record', () => files().length === 0, NOISE_MS);
    });

    it('R17 saves no process from the next worker of the data directory, nor keeps that worker from starting', async () => {
      const worker = await startWorker('stay');
      process.kill(worker.guardianPid, 'SIGSTOP'); // so that it cannot start another one meanwhile
      process.kill(worker.pid, 'SIGKILL');
      process.kill(worker.guardianPid, 'SIGKILL');
      await worker.exited;
      // The record of a dead worker that no reaper can use, before the other one in the folder's order.
      const hosts = join(dataDir, 'hosts');
      const record = JSON.parse(readFileSync(join(hosts, `${workerId}.json`), 'utf8')) as object;
      const odd = JSON.stringify({ ...record, workerId: 'a-odd', cgroup: 5 });
      writeFileSync(join(hosts, 'a-odd.json'), odd);
      const checkSeal = knowing({ [workerId]: worker.proofKey, 'a-odd': worker.proofKey });
      const next = await TestHost.start(mode, { dataDir, workerId: `next-${tag}`, checkSeal });
      expect(next.host.reaped.map(({ unproved }) => unproved)).toEqual([undefined]);
      expect(next.host.reaped).toMatchObject([{ workerId, containment: 'cgroup', proved: true }]);
      expect(alive()).toEqual([]);
      rmSync(join(hosts, 'a-odd.json'));
      await next.end();
    });

    it('R10 is asked by SIGTERM like every other, and is not killed when it obeys', async () => {
      const test = await TestHost.start(mode);
      const { agent } = await test.ready(`${fixture}.sh`);
      const { report } = await agent.stop({ mode: 'graceful', graceMs: 10_000 });
      expect(report).toMatchObject({ proved: true, escalated: false });
      expect(report.signals.map(({ signal }) => signal)).toContain('SIGTERM');
      expect(report.signals.map(({ signal }) => signal)).not.toContain('SIGKILL');
      await test.end();
    });
  },
);

inCgroups('the cgroup of an agent', () => {
  it('R17 has bounds on the cgroups below it', async () => {
    const [mode] = modes;
    if (mode === undefined) return;
    const test = await TestHost.start(mode);
    await test.ready('polite.sh', { agentId: 'bounded' });
    const own = join(ownCgroup() ?? '/nowhere', `belay-${test.workerId}`, 'bounded');
    expect(readFileSync(join(own, 'cgroup.max.depth'), 'latin1')).toBe('8\n');
    expect(readFileSync(join(own, 'cgroup.max.descendants'), 'latin1')).toBe('256\n');
    await test.end();
  });
});
