import { mkdirSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isEarlierBoot, isSeenFromHere, type HostPlace } from './host-place';
import { readOwnFile, replaceOwnFile } from './own-file';
import { bootId, findAlive, readStat } from './proc-stat';
import type { Containment, ProcessIdentity } from './process-host.types';
import { removePaths } from './remove-paths';
import { sealed, unsealed, type ProofSeal } from './seal';
import type { UidMarks } from './uid-marks';

/**
 * A worker keeps this on disk so that its trees can be found again if it and its guardian die. The worker's key signs it:
 * agents of the worker's user can write the file, and a reaper kills by it.
 */
export interface HostRecord {
  readonly version: 2;
  readonly workerId: string;
  readonly owner: ProcessIdentity;
  /** Where the owner's pid and start time, and the path of its cgroup, have their meaning. */
  readonly place: HostPlace;
  readonly containment: Containment;
  readonly cgroup?: string;
  /** Where the users of its agents are marked, with isolation `user`. */
  readonly uids?: UidMarks;
  /** Secret: a process with it in its environment can be killed as an agent. The file has mode 0600. */
  readonly cookie: string;
}

/** Below the data directory. */
export const HOSTS_FOLDER = 'hosts';

/** The name of a worker's cgroup, in any parent. */
export const cgroupName = (workerId: string): string => `belay-${workerId}`;

/** All files that a worker keeps in the data directory while it runs. The record comes last, because it names the others. */
export function pathsOf(dataDir: string, workerId: string): string[] {
  return [pipesFolder(dataDir, workerId), recordPath(dataDir, workerId)];
}

function recordPath(dataDir: string, workerId: string): string {
  return join(dataDir, HOSTS_FOLDER, `${workerId}.json`);
}

/** The folder of a worker's named pipes, between making and opening them. */
export function pipesFolder(dataDir: string, workerId: string): string {
  return join(dataDir, HOSTS_FOLDER, `${workerId}.pipes`);
}

/** @throws the system's error */
export function makeFolder(dataDir: string): void {
  mkdirSync(join(dataDir, HOSTS_FOLDER), { recursive: true, mode: 0o700 });
}

/** Writes the record whole or not at all. @param key the worker's, so that the server can check the signature. */
export function writeRecord(dataDir: string, record: HostRecord, key: string): void {
  makeFolder(dataDir);
  replaceOwnFile(recordPath(dataDir, record.workerId), sealed(record, key));
}

export function removeRecord(dataDir: string, workerId: string): Promise<void> {
  return removePaths(pathsOf(dataDir, workerId));
}

/** This process, as a record names it. */
export function ownIdentity(): ProcessIdentity {
  const startTime = readStat(process.pid)?.startTime ?? '';
  return { pid: process.pid, startTime, bootId: bootId() };
}

/** `unseen`: the process is in another PID namespace or on another machine, so its state is unknown here. */
export type OwnerState = 'alive' | 'dead' | 'earlier boot' | 'unseen';

/** Whether the process that wrote the record still runs. */
export function ownerState({ owner, place, containment }: HostRecord): OwnerState {
  if (isEarlierBoot(place)) return 'earlier boot';
  if (!isSeenFromHere(place, { cgroups: containment === 'cgroup' })) return 'unseen';
  return findAlive(owner) === undefined ? 'dead' : 'alive';
}

/**
 * Whether another worker has this id now: it reaped what the one with this cookie left, and all that has the name is its own. A
 * record whose owner does not run is no such worker's.
 */
export function isSucceeded(dataDir: string, workerId: string, cookie: string): boolean {
  const found = readRecord(dataDir, workerId);
  return found !== undefined && found.cookie !== cookie && ownerState(found) === 'alive';
}

export function readRecord(dataDir: string, workerId: string): HostRecord | undefined {
  return readSealedRecord(dataDir, workerId)?.record;
}

export interface SealedRecord {
  readonly record: HostRecord;
  /** Undefined where the record is not signed. */
  readonly seal: ProofSeal | undefined;
}

export function readSealedRecord(dataDir: string, workerId: string): SealedRecord | undefined {
  try {
    const file = JSON.parse(readOwnFile(recordPath(dataDir, workerId))) as HostRecord;
    const { value: record, text, signature } = unsealed(file);
    const { version, cookie, owner, place, cgroup } = record;
    const isWhole =
      version === 2 &&
      record.workerId === workerId &&
      cookie.length >= 32 &&
      (cgroup === undefined || basename(cgroup) === cgroupName(workerId)) &&
      typeof owner.pid === 'number' &&
      typeof place.bootId === 'string' &&
      typeof place.pidNamespace === 'string';
    if (!isWhole) return undefined;
    return { record, seal: signature === undefined ? undefined : { signer: workerId, text, signature } };
  } catch {
    return undefined;
  }
}

/** Whether another worker has taken the id since: it proved the end of these trees first, and the files are its own. */
export function isReplaced(dataDir: string, { workerId, cookie }: HostRecord): boolean {
  const found = readRecord(dataDir, workerId);
  return found !== undefined && found.cookie !== cookie;
}

/** The ids of the workers that have a record here, dead or alive. */
export function recordedWorkers(dataDir: string): string[] {
  try {
    return readdirSync(join(dataDir, HOSTS_FOLDER))
      .filter((name) => name.endsWith('.json'))
      .map((name) => name.slice(0, -'.json'.length));
  } catch {
    return [];
  }
}
