import type { Libc } from '../native';
import { Cgroup } from './cgroup';
import { endByUser, giveBackUids, tryToRevoke } from './end-uids';
import { endWorkerTrees } from './end-worker-trees';
import { seenError } from './ended-trees';
import { holdFolder, type HeldFolder } from './held-folder';
import {
  isReplaced,
  ownerState,
  readSealedRecord,
  recordedWorkers,
  removeRecord,
  type HostRecord,
} from './host-record';
import type { ReapedWorker } from './process-host.types';
import { toSeen } from './process-tree';
import type { CheckSeal, ProofSeal } from './seal';
import type { Unproved } from './unproved';

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

const REAP_BOUND_MS = 10_000;

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
  const { containment, cgroup, uids } = record;
  const doubt = await doubtOf(seal, checkSeal);
  if (doubt !== undefined)
    return [{ workerId, containment, processes: [], proved: false, evidence: [], unproved: doubt }];
  // Held before the record is read again: the next worker with this id makes another folder at the same path.
  const folder = cgroup === undefined ? undefined : holdFolder(cgroup);
  try {
    if (isReplaced(dataDir, record)) return [];
    const reaped = await endTrees(record, folder, libc, dataDir);
    if (reaped === undefined) return [];
    try {
      if (reaped.proved) await onReaped?.(reaped);
      const removed = cgroup === undefined || folder?.is(cgroup) !== true || new Cgroup(cgroup).remove();
      const isGiven = uids === undefined || !reaped.proved || (await giveBackUids(uids));
      if (reaped.proved && removed && isGiven && !isReplaced(dataDir, record))
        await removeRecord(dataDir, workerId);
    } catch {
      // The reaper reports the processes that it saw; the next worker tries the record again.
    }
    return [reaped];
  } finally {
    folder?.close();
  }
}

/** @returns undefined where the next worker with this id has proved their end meanwhile. */
async function endTrees(
  record: HostRecord,
  folder: HeldFolder | undefined,
  libc: Libc | undefined,
  dataDir: string,
): Promise<ReapedWorker | undefined> {
  const { workerId, containment, cookie, uids } = record;
  const isRevoked = tryToRevoke(uids);
  const byMarks = await endWorkerTrees({ cookie, cgroup: folder?.path, leaders: [] }, REAP_BOUND_MS, libc);
  // Its agents may have the same users.
  if (isReplaced(dataDir, record)) return undefined;
  const ended = uids === undefined ? byMarks : await endByUser(byMarks, uids, REAP_BOUND_MS, libc);
  const { evidence, unproved } = ended;
  return {
    workerId,
    containment,
    processes: ended.processes.map(toSeen),
    proved: ended.proved && isRevoked,
    evidence,
    ...(unproved === undefined ? {} : { unproved }),
  };
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
