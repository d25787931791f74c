import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Libc } from '../native';
import { Cgroup } from './cgroup';
import { endByUser, giveBackUids, tryToRevoke } from './end-uids';
import { endWorkerTrees } from './end-worker-trees';
import { isEarlierBoot, isSeenFromHere, type HostPlace } from './host-place';
import { readOwnFile, replaceOwnFile } from './own-file';
import { bootId, findAlive, readStat } from './proc-stat';
import type { Containment, ProcessIdentity, ReapedWorker } from './process-host.types';
import { toSeen } from './process-tree';
import { removePaths } from './remove-paths';
import type { UidMarks } from './uid-marks';

/** A worker keeps this on disk so that, should it and its guardian die, its trees can be found again. */
export interface HostRecord {
  readonly version: 2;
  readonly workerId: string;
  readonly owner: ProcessIdentity;
  /** Where the owner's pid and start time, and the path of its cgroup, mean something. */
  readonly place: HostPlace;
  readonly containment: Containment;
  readonly cgroup?: string;
  /** Where the users of its agents are marked, with isolation `user`. */
  readonly uids?: UidMarks;
  /** Secret: whoever sets it in an environment can have that process killed. The file is mode 0600. */
  readonly cookie: string;
}

/** Below the data directory. */
export const HOSTS_FOLDER = 'hosts';
const REAP_BOUND_MS = 10_000;

/** Everything a worker keeps in the data directory while it runs; the record last, it finds the rest. */
export function pathsOf(dataDir: string, workerId: string): string[] {
  return [pipesFolder(dataDir, workerId), recordPath(dataDir, workerId)];
}

function recordPath(dataDir: string, workerId: string): string {
  return join(dataDir, HOSTS_FOLDER, `${workerId}.json`);
}

/** Where a worker's named pipes are for the moment between making and opening. */
export function pipesFolder(dataDir: string, workerId: string): string {
  return join(dataDir, HOSTS_FOLDER, `${workerId}.pipes`);
}

/** @throws the system's error */
export function makeFolder(dataDir: string): void {
  mkdirSync(join(dataDir, HOSTS_FOLDER), { recursive: true, mode: 0o700 });
}

/** Written whole or not at all. */
export function writeRecord(dataDir: string, record: HostRecord): void {
  makeFolder(dataDir);
  replaceOwnFile(recordPath(dataDir, record.workerId), JSON.stringify(record));
}

export function removeRecord(dataDir: string, workerId: string): Promise<void> {
  return removePaths(pathsOf(dataDir, workerId));
}

/** This process, as a record names it. */
export function ownIdentity(): ProcessIdentity {
  const startTime = readStat(process.pid)?.startTime ?? '';
  return { pid: process.pid, startTime, bootId: bootId() };
}

/** `unseen`: it is of another PID namespace or another machine, so that nothing here can tell. */
export type OwnerState = 'alive' | 'dead' | 'earlier boot' | 'unseen';

/** Whether the process that wrote the record still runs. */
export function ownerState({ owner, place, containment }: HostRecord): OwnerState {
  if (isEarlierBoot(place)) return 'earlier boot';
  if (!isSeenFromHere(place, { cgroups: containment === 'cgroup' })) return 'unseen';
  return findAlive(owner) === undefined ? 'dead' : 'alive';
}

export function readRecord(dataDir: string, workerId: string): HostRecord | undefined {
  try {
    const record = JSON.parse(readOwnFile(recordPath(dataDir, workerId))) as HostRecord;
    const { version, cookie, owner, place, cgroup } = record;
    const isWhole =
      version === 2 &&
      record.workerId === workerId &&
      cookie.length >= 32 &&
      (cgroup === undefined || typeof cgroup === 'string') &&
      typeof owner.pid === 'number' &&
      typeof place.bootId === 'string' &&
      typeof place.pidNamespace === 'string';
    return isWhole ? record : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Ends the processes that dead workers of this data directory left running on this machine, found by cgroup and
 * cookie. A worker whose process still runs is left alone. So is one of another PID namespace or machine that shares
 * the directory: its processes cannot be seen from here, and that it is not seen must not pass for its death. After a
 * reboot of this machine there is nothing to find. Repeatable, safe beside a guardian that is doing the same.
 */
export async function reapDeadWorkers(dataDir: string, libc?: Libc): Promise<ReapedWorker[]> {
  const reaped: ReapedWorker[] = [];
  for (const workerId of recordedWorkers(dataDir)) {
    try {
      reaped.push(...(await reapWorker(dataDir, workerId, libc)));
    } catch {
      // It stays for the next time. One record that cannot be dealt with must stop no worker's start, and no other reaping.
    }
  }
  return reaped;
}

async function reapWorker(dataDir: string, workerId: string, libc?: Libc): Promise<ReapedWorker[]> {
  const record = readRecord(dataDir, workerId);
  if (record === undefined) return [];
  const state = ownerState(record);
  if (state === 'earlier boot') await removeRecord(dataDir, workerId);
  if (state !== 'dead') return [];
  const { containment, cgroup, cookie, uids } = record;
  const isRevoked = tryToRevoke(uids);
  const byMarks = await endWorkerTrees({ cookie, cgroup, leaders: [] }, REAP_BOUND_MS, libc);
  const ended = uids === undefined ? byMarks : await endByUser(byMarks, uids, REAP_BOUND_MS, libc);
  const { evidence } = ended;
  const proved = ended.proved && isRevoked;
  try {
    const removed = cgroup === undefined || new Cgroup(cgroup).remove();
    const isGiven = uids === undefined || !proved || (await giveBackUids(uids));
    if (proved && removed && isGiven) await removeRecord(dataDir, workerId);
  } catch {
    // The reaper reports the processes that it saw; the next worker tries the record again.
  }
  const { unproved } = ended;
  return [
    {
      workerId,
      containment,
      processes: ended.processes.map(toSeen),
      proved,
      evidence,
      ...(unproved === undefined ? {} : { unproved }),
    },
  ];
}

function recordedWorkers(dataDir: string): string[] {
  try {
    return readdirSync(join(dataDir, HOSTS_FOLDER))
      .filter((name) => name.endsWith('.json'))
      .map((name) => name.slice(0, -'.json'.length));
  } catch {
    return [];
  }
}
