import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cgroup } from './cgroup';
import { endWorkerTrees } from './end-worker-trees';
import { bootId, findAlive, readStat } from './proc-stat';
import type { Containment, ProcessIdentity, ReapedWorker } from './process-host.types';
import { toSeen } from './process-tree';
import { removePaths } from './remove-paths';

/** What a worker leaves on disk so that, should it and its guardian die, its trees can be found again (R17). */
export interface HostRecord {
  readonly version: 1;
  readonly workerId: string;
  readonly owner: ProcessIdentity;
  readonly containment: Containment;
  readonly cgroup?: string;
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

/** Written whole or not at all. */
export function writeRecord(dataDir: string, record: HostRecord): void {
  const path = recordPath(dataDir, record.workerId);
  mkdirSync(join(dataDir, HOSTS_FOLDER), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function removeRecord(dataDir: string, workerId: string): Promise<void> {
  return removePaths(pathsOf(dataDir, workerId));
}

/** This process, as a record names it. */
export function ownIdentity(): ProcessIdentity {
  const startTime = readStat(process.pid)?.startTime ?? '';
  return { pid: process.pid, startTime, bootId: bootId() };
}

/** Whether the process that wrote the record still runs. */
export function ownerLives(record: HostRecord): boolean {
  return record.owner.bootId === bootId() && findAlive(record.owner) !== undefined;
}

export function readRecord(dataDir: string, workerId: string): HostRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(recordPath(dataDir, workerId), 'utf8')) as HostRecord;
    const whole = record.version === 1 && record.workerId === workerId && record.cookie.length >= 32;
    return whole ? record : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Ends what dead workers of this data directory left running on this machine, found by cgroup and cookie. A worker
 * whose process still runs is left alone; after a reboot there is nothing to find. Repeatable, safe beside a
 * guardian that is doing the same.
 */
export async function reapDeadWorkers(dataDir: string): Promise<ReapedWorker[]> {
  const reaped: ReapedWorker[] = [];
  for (const workerId of recordedWorkers(dataDir)) {
    const record = readRecord(dataDir, workerId);
    if (record === undefined || ownerLives(record)) continue;
    const { containment, cgroup, cookie } = record;
    if (record.owner.bootId !== bootId()) {
      await removeRecord(dataDir, workerId);
      continue;
    }
    const ended = await endWorkerTrees({ cookie, cgroup, leaders: [] }, REAP_BOUND_MS);
    const removed = cgroup === undefined || new Cgroup(cgroup).remove();
    if (ended.proved && removed) await removeRecord(dataDir, workerId);
    reaped.push({ workerId, containment, processes: ended.processes.map(toSeen), proved: ended.proved });
  }
  return reaped;
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
