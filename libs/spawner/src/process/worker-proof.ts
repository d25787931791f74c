import { lstatSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  CONTAINMENTS,
  leadersProblem,
  type Evidence,
  type SeenProcess,
  type StopReport,
} from '#libs/contracts';

import type { Libc } from '../native';
import { HOSTS_FOLDER } from './host-record';
import { reapDeadWorkers } from './reap-dead-workers';
import { readOwnFile, replaceOwnFile } from './own-file';
import type { PidStart } from './proc-stat';
import type { Containment, ReapedWorker } from './process-host.types';
import { sealed, unsealed, type CheckSeal, type ProofSeal } from './seal';
import { TREES_EVIDENCE, type TreesEvidence } from './trees-evidence';
import { describeUnproved, type Unproved } from './unproved';

/**
 * The proof that every process of a dead worker was seen dead: by its guardian, or by a worker that reaped it later. Or the
 * worker was silent for too long, and its guardian ended its trees. Or it drained, and saw all of them dead itself.
 */
export interface WorkerProof {
  readonly workerId: string;
  readonly containment: Containment;
  /** Processes that were found alive and killed. */
  readonly processes: readonly SeenProcess[];
  readonly by: 'guardian' | 'reaper' | 'worker';
  /** The worker of the same host that reaped. Absent where a guardian or the worker itself proved the end. */
  readonly reaper?: Reaper;
  /** The kinds of evidence. Absent in files of earlier releases: then it is that of the containment, the cgroup or marks. */
  readonly evidence?: readonly TreesEvidence[];
  /** The proof covers only the trees of these first processes: the worker lives, and may start others when it wakes. */
  readonly leaders?: readonly PidStart[];
}

/** The worker that ended the processes of a dead worker. */
export interface Reaper {
  readonly workerId: string;
  readonly host: string;
}

/** The reaper of `collectProofs`, and the checks that it uses. */
export interface CollectOptions {
  readonly reaper?: Reaper;
  /** The reaper's key, for signing. */
  readonly key?: string;
  /** Without it no record is believed, and nothing is reaped. */
  readonly checkSeal?: CheckSeal | undefined;
  readonly libc?: Libc | undefined;
  /** A reaper or a guardian could not prove the end of a worker's trees. A reaper reports it each time, a guardian once. */
  onUnproved?(end: UnprovedEnd): void;
}

/**
 * The report of a reaper or a guardian that the end of a worker's trees is not proved. A guardian leaves it as a file,
 * unsigned.
 */
export interface UnprovedEnd {
  readonly workerId: string;
  readonly by: 'guardian' | 'reaper';
  /** A text for a log and for people. */
  readonly why: string;
}

/** Reports a proof to the server. `refused`: it is a forgery, and is set aside. */
export type TellProof = (
  proof: WorkerProof,
  seal: ProofSeal | undefined,
) => Promise<'refused' | undefined | void>;

const SUFFIX = '.proof';
const UNPROVED_SUFFIX = '.unproved';
/** At most this many characters of a reason in such a file are reported. */
const MAX_WHY = 1_000;
/** Kept for a person to look at, and never read again. */
const UNREADABLE_SUFFIX = '.unreadable';

export function proofPath(dataDir: string, workerId: string): string {
  return join(dataDir, HOSTS_FOLDER, `${workerId}${SUFFIX}`);
}

/** All ends of the worker are stored, so nobody needs the proof. */
export function forgetProof(dataDir: string, workerId: string): void {
  rmSync(proofPath(dataDir, workerId), { recursive: true, force: true });
}

/**
 * Writes the proof whole or not at all: it outlives the guardian until a worker has reported it to the server.
 * @param key the secret of the worker for which it is signed.
 */
export function writeProof(path: string, proof: WorkerProof, key?: string): void {
  replaceOwnFile(path, key === undefined ? JSON.stringify(proof) : sealed(proof, key));
}

/**
 * Ends the trees of dead workers of this data directory, and hands every proof to `tell`. A reported proof is removed; one that
 * could not be reported is kept for the next time. Repeatable, also by several workers at once.
 */
export async function collectProofs(
  dataDir: string,
  tell: TellProof,
  { reaper, key, checkSeal, libc, onUnproved }: CollectOptions = {},
): Promise<void> {
  const who = reaper === undefined ? {} : { reaper };
  const onReaped = async ({ workerId, containment, processes, evidence }: ReapedWorker): Promise<void> =>
    writeProof(
      proofPath(dataDir, workerId),
      { workerId, containment, processes, evidence, by: 'reaper', ...who },
      key,
    );
  for (const { workerId, proved, unproved } of await reapDeadWorkers(dataDir, { checkSeal, libc, onReaped }))
    if (!proved && unproved !== undefined)
      onUnproved?.({ workerId, by: 'reaper', why: describeUnproved(unproved) });
  for (const path of filesWith(dataDir, UNPROVED_SUFFIX)) {
    const end = takeUnproved(path);
    if (end !== undefined) onUnproved?.(end);
  }
  for (const path of filesWith(dataDir, SUFFIX)) {
    const version = versionOf(path);
    const found = readProof(path);
    const isRefused = found === 'unreadable' || (found !== undefined && (await tell(...found)) === 'refused');
    // A guardian or a reaper has replaced it since: the proof of now is reported the next time.
    if (versionOf(path) !== version) continue;
    if (isRefused) setAside(path);
    else rmSync(path, { recursive: true, force: true });
  }
}

/** Differs after the file was replaced. '' where there is none. */
function versionOf(path: string): string {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? '' : `${found.ino} ${found.ctimeNs}`;
}

function filesWith(dataDir: string, suffix: string): string[] {
  try {
    const folder = join(dataDir, HOSTS_FOLDER);
    return readdirSync(folder)
      .filter((name) => name.endsWith(suffix))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

/** Written beside the place of the proof that its guardian could not leave. */
export function writeUnproved(proof: string, workerId: string, unproved: Unproved): void {
  const path = `${proof.slice(0, -SUFFIX.length)}${UNPROVED_SUFFIX}`;
  replaceOwnFile(path, JSON.stringify({ workerId, why: describeUnproved(unproved) }));
}

/** Undefined: the file cannot be read. It is reported at most once. */
function takeUnproved(path: string): UnprovedEnd | undefined {
  try {
    const { why } = JSON.parse(readOwnFile(path)) as { why?: unknown };
    if (typeof why !== 'string') return undefined;
    return { workerId: basename(path, UNPROVED_SUFFIX), by: 'guardian', why: why.slice(0, MAX_WHY) };
  } catch {
    return undefined;
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

/**
 * Undefined: another worker has reported it meanwhile. `unreadable`: also a file that is not Belay's, since an agent can put it
 * there.
 */
function readProof(path: string): [WorkerProof, ProofSeal | undefined] | 'unreadable' | undefined {
  try {
    const value: unknown = JSON.parse(readOwnFile(path));
    if (!isProofOf(basename(path, SUFFIX), value)) return 'unreadable';
    const { value: proof, text, signature } = unsealed(value);
    if (signature === undefined) return [proof, undefined];
    const signer = (proof.by === 'reaper' ? proof.reaper?.workerId : undefined) ?? proof.workerId;
    return [proof, { signer, text, signature }];
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : 'unreadable';
  }
}

/** A proof whose `leaders` cannot be read would count for every tree of the worker, so nothing of it is used. */
function isProofOf(workerId: string, value: unknown): value is WorkerProof {
  if (typeof value !== 'object' || value === null) return false;
  const proof = value as Partial<Record<keyof WorkerProof, unknown>>;
  return (
    proof.workerId === workerId &&
    (CONTAINMENTS as readonly unknown[]).includes(proof.containment) &&
    (proof.by === 'guardian' || proof.by === 'reaper' || proof.by === 'worker') &&
    isEvidence(proof.evidence) &&
    Array.isArray(proof.processes) &&
    isReaper(proof.reaper) &&
    leadersProblem(proof.leaders) === undefined
  );
}

function isEvidence(value: unknown): boolean {
  if (value === undefined) return true;
  return Array.isArray(value) && value.every((kind) => (TREES_EVIDENCE as readonly unknown[]).includes(kind));
}

function isReaper(value: unknown): boolean {
  if (value === undefined) return true;
  const { workerId, host } = (value ?? {}) as Partial<Record<keyof Reaper, unknown>>;
  return typeof workerId === 'string' && typeof host === 'string';
}

function setAside(path: string): void {
  try {
    renameSync(path, `${path}${UNREADABLE_SUFFIX}`);
  } catch {
    // Another worker was faster.
  }
}

/**
 * The report that a receipt shows for an agent whose worker died. It has no times: the prover did not know when the stop was
 * asked for, if it was.
 */
export function reportOfProof({ containment, by, reaper, evidence, leaders }: WorkerProof): StopReport {
  const kinds = evidence ?? [containment === 'cgroup' ? ('cgroup-empty' as const) : ('sweep-empty' as const)];
  if (by === 'worker') return drainedReport(containment, kinds);
  const when = leaders === undefined ? 'after its worker died' : 'since its worker was silent for too long';
  const who =
    by === 'guardian'
      ? 'its guardian'
      : reaper === undefined
        ? 'a worker that started or ran on its host'
        : `the reaper of worker ${reaper.workerId} on host ${reaper.host}`;
  return {
    containment,
    proved: true,
    processes: [],
    signals: [{ signal: 'SIGKILL', to: containment === 'cgroup' ? 'cgroup' : 'group' }],
    evidence: told(
      kinds,
      `ended by ${who}, ${when}: it killed the remaining processes of that worker and saw none left; times not measured`,
    ),
    survivors: [],
    escalated: true,
  };
}

/** How each agent ended is no longer known, only that no process of any of them runs. */
function drainedReport(containment: Containment, kinds: readonly TreesEvidence[]): StopReport {
  return {
    containment,
    proved: true,
    processes: [],
    signals: [],
    evidence: told(
      kinds,
      'its worker drained and saw none of its processes left, but could not store how it ended; times not measured',
    ),
    survivors: [],
    escalated: false,
  };
}

/** One sentence for all kinds of evidence, at the first of them. */
function told(kinds: readonly TreesEvidence[], detail: string): Evidence[] {
  return kinds.map((kind, index) => (index === 0 ? { kind, detail } : { kind }));
}
