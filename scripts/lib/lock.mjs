// A lock of this machine: a file that names its holder. A lock whose holder died counts as free.
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { identify } from './processes.mjs';

/** Runs `work` while no other process has the lock `path`. */
export async function withLock(path, { waitMs, onWait }, work) {
  const mine = `${path}.${process.pid}-${randomBytes(4).toString('hex')}`;
  writeFileSync(mine, identify(process.pid) ?? '', { mode: 0o600 });
  // A signal's default action would leave a stale lock file, which is harmless; this removes it.
  try {
    await take(path, mine, waitMs, onWait);
    try {
      return await work();
    } finally {
      rmSync(path, { force: true });
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

async function take(path, mine, waitMs, onWait) {
  const deadline = performance.now() + waitMs;
  let told = false;
  for (;;) {
    try {
      linkSync(mine, path); // atomic, and the file is whole the moment it exists
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = readHolder(path);
    if (holder === undefined) continue;
    const pid = Number(holder.split(':')[0]);
    if (identify(pid) !== holder) {
      removeStale(path, mine, holder);
      continue;
    }
    if (performance.now() > deadline) throw new Error(`${path} is held by process ${pid}; end it or wait.`);
    if (!told) onWait(pid);
    told = true;
    await pause(50);
  }
}

/** The moved lock may be a live one by now: then it is put back. */
function removeStale(path, mine, seen) {
  const aside = `${mine}.stale`;
  try {
    renameSync(path, aside);
  } catch {
    return; // another process was faster
  }
  if (readHolder(aside) !== seen) {
    try {
      linkSync(aside, path);
    } catch {
      // Another process has taken the lock again already.
    }
  }
  rmSync(aside, { force: true });
}

function readHolder(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
