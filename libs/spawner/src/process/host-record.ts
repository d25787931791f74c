import { mkdirSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Libc } from '../native';
import { Cgroup } from './cgroup';
import { endByUser, giveBackUids, tryToRevoke } from './end-uids';
import { endWorkerTrees } from './end-worker-trees';
import { seenError } from './ended-trees';
import { isEarlierBoot, isSeenFromHere, type HostPlace } from './host-place';
import { readOwnFile, replaceOwnFile } from './own-file';
import { bootId, findAlive, readStat } from './proc-stat';
import type { Containment, ProcessIdentity, ReapedWorker } from './process-host.types';
import { toSeen } from './process-tree';
import { removePaths } from './remove-paths';
import { sealed, unsealed, type CheckSeal, type ProofSeal } from './seal';
import type { UidMarks } from './uid-marks';
import type { Unproved } from './unproved';

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

export interface ReapOptions {
  /** Without it no record is believed, and nothing is reaped. */
  readonly checkSeal?: CheckSeal | undefined;
  readonly libc?: Libc | undefined;
  /**
   * Stores the proof of a dead worker. Its record is removed only afterwards: if this throws, the record stays, and the next
   * look proves the same again.
   */
  readonly onReaped?: ((worker: ReapedWorker) => Promise<void>) | undefined;
}

/** Below the data directory. */
export const HOSTS_FOLDER = 'hosts';
const REAP_BOUND_MS = 10_000;

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

interface SealedRecord {
  readonly record: HostRecord;
  /** Undefined where the record is not signed. */
  readonly seal: ProofSeal | undefined;
}

function readSealedRecord(dataDir: string, workerId: string): SealedRecord | undefined {
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

/**
 * Ends the processes that dead workers of this data directory left running on this machine, found by cgroup and cookie. A
 * worker whose process still runs is left alone. So is one of another PID namespace or machine that shares the directory: its
 * processes cannot be seen from here, and that must not count as its death. After a reboot of this machine there is nothing to
 * find. Repeatable, and safe beside a guardian that does the same.
 *
 * A record that its worker did not sign is not believed: no process is signalled by it, and nothing is proved.
 */
export async function reapDeadWorkers(dataDir: string, options: ReapOptions = {}): Promise<ReapedWorker[]> {
  const reaped: ReapedWorker[] = [];
  for (const workerId of recordedWorkers(dataDir)) {
    try {
      reaped.push(...(await reapWorker(dataDir, workerId, options)));
    } catch {
      // The record stays for the next time. A faulty record must not prevent a worker's start, or another reaping.
    }
  }
  return reaped;
}

async function reapWorker(
  dataDir: string,
  workerId: string,
  { checkSeal, libc, onReaped }: ReapOptions,
): Promise<ReapedWorker[]> {
  const found = readSealedRecord(dataDir, workerId);
  if (found === undefined) return [];
  const { record, seal } = found;
  const state = ownerState(record);
  if (state === 'earlier boot') await removeRecord(dataDir, workerId);
  if (state !== 'dead') return [];
  const { containment, cgroup, cookie, uids } = record;
  const doubt = await doubtOf(seal, checkSeal);
  if (doubt !== undefined)
    return [{ workerId, containment, processes: [], proved: false, evidence: [], unproved: doubt }];
  const isRevoked = tryToRevoke(uids);
  const byMarks = await endWorkerTrees({ cookie, cgroup, leaders: [] }, REAP_BOUND_MS, libc);
  const ended = uids === undefined ? byMarks : await endByUser(byMarks, uids, REAP_BOUND_MS, libc);
  const { evidence } = ended;
  const proved = ended.proved && isRevoked;
  const { unproved } = ended;
  const reaped: ReapedWorker = {
    workerId,
    containment,
    processes: ended.processes.map(toSeen),
    proved,
    evidence,
    ...(unproved === undefined ? {} : { unproved }),
  };
  try {
    if (proved) await onReaped?.(reaped);
    const removed = cgroup === undefined || new Cgroup(cgroup).remove();
    const isGiven = uids === undefined || !proved || (await giveBackUids(uids));
    if (proved && removed && isGiven) await removeRecord(dataDir, workerId);
  } catch {
    // The reaper reports the processes that it saw; the next worker tries the record again.
  }
  return [reaped];
}

/** Why a record is not believed; undefined when its worker signed it. */
async function doubtOf(
  seal: ProofSeal | undefined,
  checkSeal: CheckSeal | undefined,
): Promise<Unproved | undefined> {
  const doubt = (problem: string): Unproved => ({ why: 'record', problem, rounds: 0, afterMs: 0 });
  if (checkSeal === undefined) return doubt('the signature of the record was not checked');
  if (seal === undefined)
    return doubt('the record is not signed: somebody who can write the data directory put it there');
  try {
    const verdict = await checkSeal(seal);
    if (verdict === 'right') return undefined;
    return doubt(
      verdict === 'wrong'
        ? 'the record was not signed by its worker: somebody who can write the data directory changed it'
        : 'the server has no key of the worker that the record names',
    );
  } catch (error) {
    return { ...seenError(error), rounds: 0, afterMs: 0 };
  }
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
