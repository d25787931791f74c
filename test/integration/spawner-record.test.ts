import { spawn, type ChildProcess } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { collectProofs, type CheckSeal } from '#libs/spawner';
import { NOISE_MS } from '../support/wait';
import {
  aliveWithEnvironment,
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

const [mode] = expectedModes();
const KEY = 'k'.repeat(64);

interface Fields {
  readonly workerId: string;
  readonly cookie: string;
  readonly cgroup?: string;
}

/**
 * Agents of the worker's user can kill worker and guardian and write the data directory, so a record in it may be a lie. Real
 * processes, which the forged record names, must live.
 */
describe('R51 R17 R21 a worker’s record that its worker did not sign', () => {
  if (mode === undefined) throw new Error('there is no containment here');
  const { containment, native } = mode;
  let dataDir: string;
  let tag: string;
  let workerId: string;
  let worker: ChildProcess;
  let said: { guardianPid: number; pids: number[]; proofKey: string };
  let record: string;
  const path = (): string => join(dataDir, 'hosts', `${workerId}.json`);

  beforeEach(async () => {
    dataDir = mkdtempSync(join(tmpdir(), 'belay-forged-'));
    tag = randomUUID();
    workerId = `w-${tag}`;
    const plan = {
      options: { workerId, dataDir, containment, native },
      agents: [{ command: [join(FIXTURES, 'deaf.sh')] }],
      env: { TEST_TAG: tag },
      finally: 'stay',
    };
    worker = spawn(process.execPath, [join(FIXTURES, 'host.cjs'), JSON.stringify(plan)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    const lines = createInterface(worker.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]();
    said = JSON.parse(String((await lines.next()).value)) as typeof said;
    process.kill(said.guardianPid, 'SIGSTOP'); // so that it cannot start another one meanwhile
    worker.kill('SIGKILL');
    process.kill(said.guardianPid, 'SIGKILL');
    await exited;
    await eventually('guardian gone', () => procEntry(said.guardianPid) === undefined, NOISE_MS);
    record = readFileSync(path(), 'utf8');
  });
  afterEach(async () => {
    if (worker.exitCode === null && worker.signalCode === null) worker.kill('SIGKILL');
    writeFileSync(path(), record);
    const next = await start(knowing({ [workerId]: said.proofKey }));
    const { reaped } = next.host;
    await next.host.close();
    rmSync(dataDir, { recursive: true, force: true });
    // The original record is believed.
    expect(reaped).toMatchObject([{ workerId, proved: true }]);
    expect(alive()).toEqual([]);
  });

  const alive = (): number[] => aliveWithEnvironment(`TEST_TAG=${tag}`).map(({ pid }) => pid);
  const start = async (checkSeal?: CheckSeal): Promise<TestHost> =>
    TestHost.start(mode, {
      dataDir,
      workerId: `next-${randomUUID()}`,
      ...(checkSeal === undefined ? {} : { checkSeal }),
    });

  /** No process of the worker is signalled, nothing is proved, and the record stays for a person to look at. */
  async function expectNothing(checkSeal: CheckSeal | undefined, unproved: object): Promise<void> {
    expect(said.pids.map(isAlive)).toEqual([true]);
    const next = await start(checkSeal);
    expect(next.host.reaped).toMatchObject([{ workerId, proved: false, processes: [], unproved }]);
    const told: unknown[] = [];
    const unprovedLater: string[] = [];
    await collectProofs(dataDir, async (proof) => void told.push(proof), {
      ...(checkSeal === undefined ? {} : { checkSeal }),
      onUnproved: ({ workerId: dead, by }) => unprovedLater.push(`${by} ${dead}`),
    });
    expect([told, unprovedLater]).toEqual([[], [`reaper ${workerId}`]]);
    await next.host.close();
    expect(said.pids.map(isAlive)).toEqual([true]);
    expect(existsSync(path())).toBe(true);
  }

  const changed = (change: (fields: Fields) => object, key?: string): string => {
    const { signature, ...fields } = JSON.parse(record) as Fields & { readonly signature: string };
    const text = JSON.stringify({ ...fields, ...change(fields) });
    const signed = key === undefined ? signature : createHmac('sha256', key).update(text).digest('hex');
    return JSON.stringify({ ...(JSON.parse(text) as object), signature: signed });
  };

  const FORGERIES: readonly [string, () => string][] = [
    ['has another cookie', () => changed(() => ({ cookie: 'f'.repeat(32) }))],
    [
      'has another containment',
      () => changed(() => ({ containment: 'marks', cgroup: undefined, cookie: 'e'.repeat(32) })),
    ],
    ['is signed with another key', () => changed(() => ({ cookie: 'f'.repeat(32) }), KEY)],
    [
      'is not signed',
      () => changed(() => ({ signature: undefined })).replace(/,"signature":"[0-9a-f]*"/, ''),
    ],
  ];
  it.each(FORGERIES)('%s: it proves nothing, and no process is killed by it', async (_, forge) => {
    writeFileSync(path(), forge());
    await expectNothing(knowing({ [workerId]: said.proofKey }), { why: 'record' });
  });

  it('or cannot be shown to have signed, is left for the next time', async () => {
    await expectNothing(undefined, { why: 'record' });
    await expectNothing(knowing({}), { why: 'record' });
    const unreachable = Object.assign(new Error('no server'), { code: 'ECONNREFUSED' });
    await expectNothing(async () => Promise.reject(unreachable), { why: 'error', code: 'ECONNREFUSED' });
  });

  it('names strangers by a cookie that they carry: they live', async () => {
    const cookie = 'd'.repeat(32);
    const stranger = spawn('sleep', ['600'], { env: { BELAY_WORKER_COOKIE: cookie }, stdio: 'ignore' });
    try {
      writeFileSync(
        path(),
        changed(() => ({ cookie })),
      );
      await expectNothing(knowing({ [workerId]: said.proofKey }), { why: 'record' });
      expect(isAlive(stranger.pid ?? 0)).toBe(true);
    } finally {
      stranger.kill('SIGKILL');
    }
  });

  (containment === 'cgroup' ? it : it.skip)(
    'names the cgroup of strangers: they live, also when the name is signed',
    async () => {
      const cgroup = join(ownCgroup() ?? '/nowhere', `strangers-${tag}.slice`);
      mkdirSync(cgroup);
      const stranger = spawn('sleep', ['600'], { stdio: 'ignore' });
      const gone = new Promise((resolve) => stranger.once('exit', resolve));
      try {
        writeFileSync(join(cgroup, 'cgroup.procs'), String(stranger.pid));
        writeFileSync(
          path(),
          changed(() => ({ cgroup })),
        );
        // No worker's cgroup has such a name: nothing of the record is used.
        for (const checkSeal of [knowing({ [workerId]: said.proofKey }), async () => 'right' as const]) {
          const next = await start(checkSeal);
          expect(next.host.reaped).toEqual([]);
          await next.host.close();
        }
        const other = join(ownCgroup() ?? '/nowhere', 'below', `belay-${workerId}`);
        writeFileSync(
          path(),
          changed(() => ({ cgroup: other })),
        );
        await expectNothing(knowing({ [workerId]: said.proofKey }), { why: 'record' });
        expect(isAlive(stranger.pid ?? 0)).toBe(true);
      } finally {
        stranger.kill('SIGKILL');
        await gone;
        rmdirSync(cgroup);
      }
    },
  );
});
