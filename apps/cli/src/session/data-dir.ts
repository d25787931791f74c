import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readWithoutWait } from './read-without-wait';

/** The CLI's files in the data dir. */
export interface DataDir {
  readonly path: string;
  readonly token: string;
  /** The `{ url, pid }` of the orchestrator that `belay up` runs. */
  readonly orchestrator: string;
  readonly logs: string;
}

export function dataDirAt(cwd: string, env: NodeJS.ProcessEnv, flag: string | undefined): DataDir {
  const named = flag ?? (env['BELAY_DATA_DIR'] || '.belay');
  const path = resolve(cwd, named);
  return {
    path,
    token: join(path, 'token'),
    orchestrator: join(path, 'orchestrator.json'),
    logs: join(path, 'logs'),
  };
}

/** The file in which `belay up` records its orchestrator. */
export interface OrchestratorFile {
  readonly url: string;
  readonly pid: number;
  /** Together with the pid it names one process. */
  readonly startTime?: string;
}

/** The record of `belay up`; undefined when there is none or it cannot be read. */
export function readOrchestratorFile(dataDir: DataDir): OrchestratorFile | undefined {
  try {
    const value = JSON.parse(readWithoutWait(dataDir.orchestrator)) as Record<string, unknown> | null;
    const { url, pid, startTime } = value ?? {};
    if (typeof url !== 'string' || typeof pid !== 'number') return undefined;
    return { url, pid, ...(typeof startTime === 'string' ? { startTime } : {}) };
  } catch {
    return undefined;
  }
}

/** The file's text without surrounding space; undefined when it is absent or empty. */
export function readTokenFile(path: string): string | undefined {
  try {
    const text = readWithoutWait(path).trim();
    return text === '' ? undefined : text;
  } catch (error) {
    // A data dir that is a file has no token; `up` reports what is wrong with it.
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** The permission bits of a path; undefined when the path does not exist. */
export function modeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.mode;
}

/** Whether users other than the owner may read or write it. */
export function isOpenToOthers(mode: number): boolean {
  return (mode & 0o077) !== 0;
}
