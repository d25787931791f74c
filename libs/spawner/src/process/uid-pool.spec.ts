import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AGENT_UIDS } from '../../../../test/support/own-user';
import { endByUser } from './end-uids';
import { hostPlace } from './host-place';
import { readStat } from './proc-stat';
import { asUser } from './set-user';
import { writeMark, writeOwner, type UidMarks } from './uid-marks';
import { lookForUser } from './uid-empty';
import { UidPool } from './uid-pool';
import { UidSweeper } from './uid-sweep';

const describeRoot = process.getuid?.() === 0 ? describe : describe.skip;
if (process.getuid?.() !== 0)
  process.stdout.write('User ids of agents are not tested here: this is not root.\n');

const FIRST = AGENT_UIDS.first;
const range = (count: number) => ({ first: FIRST, last: FIRST + count - 1 });

describeRoot('user ids for agents', () => {
  let dir: string;
  let folder: string;
  const children: ChildProcess[] = [];
  const pools: UidPool[] = [];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'belay-uids-'));
    chmodSync(dir, 0o711);
    folder = join(dir, 'uids');
  });
  afterEach(async () => {
    await Promise.all(children.splice(0).map(end));
    for (const pool of pools.splice(0)) rmSync(pool.homes, { recursive: true, force: true });
    rmSync(dir, { recursive: true, force: true });
  });

  function newPool(count: number): UidPool {
    const pool = new UidPool(range(count), folder);
    pools.push(pool);
    return pool;
  }

  async function end(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** A process of that user, once it runs as that user. */
  async function processOf(uid: number): Promise<ChildProcess> {
    const [file = '', ...args] = asUser(uid);
    const child = spawn(file, [...args, '/bin/sh', '-c', 'echo begun; exec sleep 600'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    children.push(child);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    return child;
  }

  /** Marks of a worker that died, with a home for each, or of one that lives. */
  async function marksOf(uids: readonly number[], pid?: number): Promise<{ marks: UidMarks; homes: string }> {
    const child = spawn('/bin/true');
    const dead = { pid: child.pid ?? 0, startTime: readStat(child.pid ?? 0)?.startTime ?? '' };
    await once(child, 'exit');
    const owner = pid === undefined ? dead : { pid, startTime: readStat(pid)?.startTime ?? '' };
    const marks = { folder, token: 'ab'.repeat(16) };
    const homes = join(dir, 'homes');
    const place = hostPlace();
    writeOwner(marks, { owner: { ...owner, bootId: place.bootId }, place, homes });
    for (const uid of uids) {
      mkdirSync(join(homes, String(uid)), { recursive: true });
      writeFileSync(join(homes, String(uid), 'left'), '');
      writeMark(marks, uid);
    }
    return { marks, homes };
  }

  it('are each given to one agent, also by two workers of one machine, until none is left', async () => {
    const both = [newPool(8), newPool(8)];
    const taken = await Promise.all([0, 1, 0, 1, 0, 1].map(async (at) => both[at]?.take()));
    expect(new Set(taken.map((one) => one?.uid)).size).toBe(6);
    for (const one of taken)
      expect(statSync(one?.home ?? '')).toMatchObject({ uid: one?.uid, gid: one?.uid });
    const more = await Promise.allSettled([0, 1, 0, 1].map(async (at) => both[at]?.take()));
    const refused = more.filter(({ status }) => status === 'rejected');
    expect(refused.length).toBeGreaterThanOrEqual(2);
    expect(refused[0]).toMatchObject({ reason: { code: 'SPAWN_FAILED', details: { reason: 'ISOLATION' } } });
    const all = [...taken, ...more.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))];
    expect(new Set(all.map((one) => one?.uid)).size).toBe(all.length);
    for (const one of all)
      for (const pool of both) if (one?.home.startsWith(homesOf(pool)) === true) await pool.giveBack(one);
    await Promise.all(both.map(async (pool) => pool.close()));
    expect(readdirSync(folder)).toEqual([]);
    expect(existsSync(homesOf(both[0]))).toBe(false);
  });

  it('are not given out while a process of theirs lives', async () => {
    const child = await processOf(FIRST);
    const pool = newPool(1);
    await expect(pool.take()).rejects.toMatchObject({ details: { reason: 'ISOLATION' } });
    await end(child);
    await expect(pool.take()).resolves.toMatchObject({ uid: FIRST });
  });

  it('of a worker that died are given out once nothing of theirs runs, and its starts are refused from then on', async () => {
    const { marks, homes } = await marksOf([FIRST]);
    const child = await processOf(FIRST);
    const pool = newPool(1);
    await expect(pool.take()).rejects.toMatchObject({ details: { reason: 'ISOLATION' } });
    expect(readdirSync(folder)).toContain(`${FIRST}.${marks.token}`);
    expect(existsSync(join(homes, String(FIRST), 'left'))).toBe(true);
    // Before the look: a start that is under way is seen, or finds no permit.
    expect(readdirSync(folder)).not.toContain(`start.${marks.token}`);
    await end(child);
    await expect(pool.take()).resolves.toMatchObject({ uid: FIRST });
    expect(readdirSync(folder)).not.toContain(`${FIRST}.${marks.token}`);
    expect(existsSync(join(homes, String(FIRST)))).toBe(false);
  });

  it('of a worker that died are all given back when another begins, save where something runs', async () => {
    const { homes } = await marksOf([FIRST, FIRST + 1]);
    const child = await processOf(FIRST + 1);
    const pool = newPool(1);
    await pool.collect();
    expect(existsSync(homes)).toBe(true);
    await end(child);
    await pool.collect();
    expect(existsSync(homes)).toBe(false);
    // The worker's own marks.
    expect(readdirSync(folder)).toHaveLength(2);
    await pool.close();
  });

  it('are looked for with one signal to all of the user when processes come and go faster than they are read', async () => {
    const child = await processOf(FIRST);
    const other = await processOf(FIRST + 1);
    const seen: number[] = [];
    // A pass that may have missed a process, and says so.
    const blind = { sound: false, of: () => [] };
    const sweeper = new UidSweeper();
    const real = sweeper.sweep.bind(sweeper);
    sweeper.sweep = async () => (seen.push(seen.length) === 1 ? blind : real());
    const ended = once(child, 'exit');
    const look = await lookForUser(FIRST, sweeper);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(seen).toHaveLength(2);
    // The process may still be dying: then it is seen, and there is another look.
    if (!look.isEmpty) expect(look.found).toHaveLength(1);
    await eventuallyEmpty(sweeper);
    expect([other.exitCode, other.signalCode]).toEqual([null, null]);
  });

  it('prove nothing of a worker whose marks are lost', async () => {
    const { marks } = await marksOf([FIRST]);
    const byMarks = { proved: true, processes: [], evidence: ['sweep-empty'] } as const;
    const told = async () => (await endByUser(byMarks, marks, 10_000, undefined)).evidence;
    expect(await told()).toEqual(['sweep-empty', 'uid-empty']);
    for (const name of readdirSync(folder)) rmSync(join(folder, name));
    expect(await told()).toEqual(['sweep-empty']);
    rmSync(folder, { recursive: true });
    expect(await told()).toEqual(['sweep-empty']);
  });

  it('of a worker that lives are left alone', async () => {
    await marksOf([FIRST], process.pid);
    const pool = newPool(1);
    await pool.collect();
    await expect(pool.take()).rejects.toMatchObject({ details: { reason: 'ISOLATION' } });
    expect(readdirSync(folder)).toHaveLength(5);
    await pool.close();
    expect(readdirSync(folder)).toHaveLength(3);
  });
});

/** A process that was sent SIGKILL is seen until it has ended. */
async function eventuallyEmpty(sweeper: UidSweeper): Promise<void> {
  const giveUpAt = performance.now() + 10_000;
  while (!(await lookForUser(FIRST, sweeper)).isEmpty)
    if (performance.now() > giveUpAt) throw new Error('it is still seen');
}

/** The folder with the homes of a pool's agents. */
function homesOf(pool: UidPool | undefined): string {
  return pool?.homes ?? '';
}
