import { createHmac } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hostPlace, isEarlierBoot, isSeenFromHere, type HostPlace } from './host-place';
import { HOSTS_FOLDER, ownIdentity, pathsOf, writeRecord, type HostRecord } from './host-record';
import { createProcessHost } from './process-host';
import type { CheckSeal } from './seal';
import { collectProofs, writeProof, proofPath, type WorkerProof } from './worker-proof';

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'belay-record-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const FIRST = 'pid:[4026531836]';

/** A worker of this data directory whose process is not in this /proc. */
function record(workerId: string, over: Partial<HostRecord> = {}): void {
  const whole: HostRecord = {
    version: 2,
    workerId,
    owner: { ...ownIdentity(), startTime: '1' },
    place: hostPlace(),
    containment: 'marks',
    cookie: 'c'.repeat(32),
    ...over,
  };
  writeRecord(dataDir, whole, 'key');
}

/** A server that knows one key for all workers. */
const checkSeal: CheckSeal = async ({ text, signature }) =>
  createHmac('sha256', 'key').update(text).digest('hex') === signature ? 'right' : 'wrong';

const isRecorded = (workerId: string): boolean => existsSync(pathsOf(dataDir, workerId)[1] ?? '');

async function collected(): Promise<WorkerProof[]> {
  const told: WorkerProof[] = [];
  await collectProofs(dataDir, async (proof) => void told.push(proof), { checkSeal });
  return told;
}

describe('R17 R51 workers that share a data directory', () => {
  it('a dead one of this PID namespace is reaped and proved', async () => {
    record('w-dead');
    expect(await collected()).toMatchObject([{ workerId: 'w-dead', by: 'reaper' }]);
    expect(isRecorded('w-dead')).toBe(false);
  });

  it.each<[string, Partial<HostPlace>]>([
    ['of another PID namespace', { pidNamespace: 'pid:[1]' }],
    ['of another time namespace', { timeNamespace: 'time:[1]' }],
    ['of another machine', { machineId: 'f'.repeat(32), bootId: 'another', pidNamespace: FIRST }],
    [
      'of another machine that runs the same image',
      { ...hostPlace(), bootId: 'another', pidNamespace: 'pid:[1]' },
    ],
  ])(
    'one %s is neither reaped nor proved nor deleted, and no other worker takes its id',
    async (_, place) => {
      record('w-elsewhere', { place: { ...hostPlace(), ...place } });
      expect(await collected()).toEqual([]);
      expect(isRecorded('w-elsewhere')).toBe(true);
      await expect(
        createProcessHost({ workerId: 'w-elsewhere', dataDir, containment: 'marks' }),
      ).rejects.toMatchObject({
        code: 'INVALID_SETTINGS',
        message: expect.stringContaining('another PID namespace or machine') as string,
      });
      expect(isRecorded('w-elsewhere')).toBe(true);
    },
  );

  it('one whose cgroup cannot be seen is left alone, and only then is the view of cgroups asked for', () => {
    const there = { ...hostPlace(), cgroupNamespace: 'cgroup:[1]' };
    expect(isSeenFromHere(there, { cgroups: true })).toBe(false);
    expect(isSeenFromHere(there, { cgroups: false })).toBe(true);
  });

  it('an earlier boot is known by the machine id, and only outside of containers', () => {
    const here = { ...hostPlace(), machineId: 'a'.repeat(32), bootId: 'now', pidNamespace: FIRST };
    const before = { ...here, bootId: 'before' };
    expect(isEarlierBoot(before, here)).toBe(true);
    expect(isEarlierBoot(here, here)).toBe(false);
    expect(isEarlierBoot({ ...before, machineId: 'b'.repeat(32) }, here)).toBe(false);
    expect(isEarlierBoot({ ...before, machineId: '' }, { ...here, machineId: '' })).toBe(false);
    expect(isEarlierBoot({ ...before, pidNamespace: 'pid:[1]' }, here)).toBe(false);
    expect(isEarlierBoot(before, { ...here, pidNamespace: 'pid:[1]' })).toBe(false);
  });
});

describe('R51 a proof in the data directory', () => {
  const proof: WorkerProof = { workerId: 'w-told', containment: 'marks', processes: [], by: 'guardian' };

  it('is told and removed', async () => {
    mkdirSync(join(dataDir, HOSTS_FOLDER));
    writeProof(proofPath(dataDir, 'w-told'), proof);
    expect(await collected()).toEqual([proof]);
    expect(readdirSync(join(dataDir, HOSTS_FOLDER))).toEqual([]);
  });

  it('is handed on with its seal, and set aside when it is refused', async () => {
    mkdirSync(join(dataDir, HOSTS_FOLDER));
    const path = proofPath(dataDir, 'w-told');
    writeProof(path, proof, 'key');
    const tell = jest.fn(async () => 'refused' as const);
    await collectProofs(dataDir, tell);
    const signature = createHmac('sha256', 'key').update(JSON.stringify(proof)).digest('hex');
    expect(tell.mock.calls).toEqual([[proof, { signer: 'w-told', text: JSON.stringify(proof), signature }]]);
    expect(readdirSync(join(dataDir, HOSTS_FOLDER))).toEqual(['w-told.proof.unreadable']);
    // The key of the reaping worker is in no file.
    record('w-dead');
    const reaper = { workerId: 'w-reaper', host: 'here' };
    const seals: unknown[] = [];
    await collectProofs(dataDir, async (told, seal) => void seals.push(told, seal), {
      reaper,
      key: 'key',
      checkSeal,
    });
    expect(seals).toMatchObject([{ workerId: 'w-dead', reaper }, { signer: 'w-reaper' }]);
    expect(JSON.stringify(seals)).not.toContain('"key"');
  });

  it.each([
    ['cut short', JSON.stringify(proof).slice(0, 40)],
    ['no object', 'null'],
    ['of another worker', JSON.stringify({ ...proof, workerId: 'w-other' })],
    ['limited to trees that cannot be read', JSON.stringify({ ...proof, leaders: [7] })],
    ['limited to nothing that is a list', JSON.stringify({ ...proof, leaders: null })],
    ['given by a stranger', JSON.stringify({ ...proof, by: 'agent' })],
  ])('%s proves nothing and is set aside', async (_, text) => {
    mkdirSync(join(dataDir, HOSTS_FOLDER));
    writeFileSync(proofPath(dataDir, 'w-told'), text);
    expect(await collected()).toEqual([]);
    expect(readdirSync(join(dataDir, HOSTS_FOLDER))).toEqual(['w-told.proof.unreadable']);
    expect(await collected()).toEqual([]);
  });
});
