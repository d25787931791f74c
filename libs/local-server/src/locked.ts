import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { BelayError } from '#libs/contracts';
import { identify, isAlive, type ProcessIdentity } from './process-identity';
import type { Report } from './types';

/**
 * Runs `work` while no other process on this machine runs work under the same lock file. The file names its holder by pid and
 * start time. So a lock whose holder died is taken over at once, and a reused pid misleads nobody.
 */
export async function withLock<T>(
  path: string,
  options: { waitMs: number; report: Report; waitingFor: string },
  work: () => Promise<T>,
): Promise<T> {
  const mine = `${path}.${process.pid}-${randomBytes(4).toString('hex')}`;
  writeFileSync(mine, JSON.stringify(identify(process.pid)), { mode: 0o600 });
  try {
    await take(path, mine, options);
    try {
      return await work();
    } finally {
      rmSync(path, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

async function take(
  path: string,
  mine: string,
  options: { waitMs: number; report: Report; waitingFor: string },
): Promise<void> {
  const deadline = performance.now() + options.waitMs;
  let told = false;
  for (;;) {
    try {
      linkSync(mine, path); // atomic, and the file is whole the moment it exists
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = readHolder(path);
    if (holder === 'gone') continue;
    if (holder === 'unreadable' || !isAlive(holder)) {
      removeStale(path, mine, holder);
      continue;
    }
    if (performance.now() > deadline) {
      throw new BelayError(
        'SERVER_UNREACHABLE',
        `Process ${holder.pid} has been ${options.waitingFor} for ${Math.round(options.waitMs / 1000)} s; end it or wait.`,
      );
    }
    if (!told) options.report(`waiting for process ${holder.pid}, which is ${options.waitingFor}`);
    told = true;
    await pause(20);
  }
}

function readHolder(path: string): ProcessIdentity | 'gone' | 'unreadable' {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'gone' : 'unreadable';
  }
  try {
    return JSON.parse(text) as ProcessIdentity;
  } catch {
    return 'unreadable';
  }
}

/**
 * Moves a dead holder's lock aside. Another process may have done so and taken the lock since it was read. Then the moved file
 * is a live lock, and it is put back.
 */
function removeStale(path: string, mine: string, seen: ProcessIdentity | 'unreadable'): void {
  const aside = `${mine}.stale`;
  try {
    renameSync(path, aside);
  } catch {
    return; // another process was faster
  }
  const moved = readHolder(aside);
  const isWhatWasSeen =
    typeof moved === 'string' || typeof seen === 'string'
      ? moved === seen
      : moved.pid === seen.pid && moved.startTime === seen.startTime;
  if (!isWhatWasSeen) {
    try {
      linkSync(aside, path);
    } catch {
      // Another process has taken the lock again already.
    }
  }
  rmSync(aside, { force: true });
}
