import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SeenProcess, StopReport } from '#libs/contracts';
import { HOSTS_FOLDER, reapDeadWorkers } from './host-record';
import type { PidStart } from './proc-stat';
import type { Containment } from './process-host.types';

/**
 * A worker died, and every process of it was seen dead: by its guardian, or by a worker that reaped it later. Or it was
 * silent for too long, and its guardian ended the trees it had.
 */
export interface WorkerProof {
  readonly workerId: string;
  readonly containment: Containment;
  /** Who was found alive and killed. */
  readonly processes: readonly SeenProcess[];
  readonly by: 'guardian' | 'reaper';
  /** Only the trees of these first processes: the worker lives, and may start others when it wakes. */
  readonly leaders?: readonly PidStart[];
}

const SUFFIX = '.proof';

export function proofPath(dataDir: string, workerId: string): string {
  return join(dataDir, HOSTS_FOLDER, `${workerId}${SUFFIX}`);
}

/** Written whole or not at all: what a guardian saw outlives it until a worker has told the server. */
export function writeProof(path: string, proof: WorkerProof): void {
  writeFileSync(`${path}.new`, JSON.stringify(proof), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/**
 * Ends what dead workers of this data directory left, and hands every proof to `tell`; one that was told is removed,
 * one that could not be is kept for the next time. Repeatable, also by several workers at once.
 */
export async function collectProofs(
  dataDir: string,
  tell: (proof: WorkerProof) => Promise<void>,
): Promise<void> {
  for (const { workerId, containment, processes, proved } of await reapDeadWorkers(dataDir))
    if (proved) writeProof(proofPath(dataDir, workerId), { workerId, containment, processes, by: 'reaper' });
  for (const path of proofFiles(dataDir)) {
    const proof = readProof(path);
    if (proof !== undefined) await tell(proof);
    rmSync(path, { force: true });
  }
}

function proofFiles(dataDir: string): string[] {
  try {
    const folder = join(dataDir, HOSTS_FOLDER);
    return readdirSync(folder)
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function readProof(path: string): WorkerProof | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as WorkerProof;
  } catch {
    return undefined; // another worker has told it, or it is no proof
  }
}

/** What a receipt shows of an agent whose worker died. */
export function reportOfProof({ containment, by, leaders }: WorkerProof): StopReport {
  const what = leaders === undefined ? 'its worker died' : 'its worker was silent for too long';
  const who = by === 'guardian' ? 'its guardian' : 'a worker that started or ran on its host';
  return {
    containment,
    proved: true,
    processes: [],
    signals: [{ signal: 'SIGKILL', to: containment === 'cgroup' ? 'cgroup' : 'group', afterMs: 0 }],
    evidence: [
      {
        kind: containment === 'cgroup' ? 'cgroup-empty' : 'sweep-empty',
        afterMs: 0,
        detail: `${what}; ${who} killed every process of that worker and saw none left`,
      },
    ],
    survivors: [],
    escalated: true,
  };
}
