import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isWorkerId } from '#libs/contracts';
import { breakGlassPath } from '#libs/client';

/** A worker of this machine, by the files it keeps in the data dir. */
export interface LocalWorker {
  readonly id: string;
  /** Where it answers without the server. */
  readonly socket: string;
  /** It has left something to end, or may have: the file that says so goes when its trees were seen dead. */
  readonly isOpen: boolean;
  /** Its process, while that lives. */
  readonly pid?: number;
}

/** What a worker writes about itself below `hosts/`, as far as it is read here. */
interface HostRecord {
  readonly owner?: { readonly pid?: unknown; readonly startTime?: unknown; readonly bootId?: unknown };
}

/**
 * Every worker that has a socket or a record in this data dir, whether or not it lives.
 *
 * @throws what reading a folder of another user throws.
 */
export function findLocalWorkers(dataDir: string): LocalWorker[] {
  const records = namesIn(join(dataDir, 'hosts'), '.json');
  const ids = new Set([...records, ...namesIn(join(dataDir, 'workers'), '.sock')]);
  return [...ids]
    .filter(isWorkerId)
    .toSorted()
    .map((id) => {
      const socket = breakGlassPath(dataDir, id);
      if (!records.includes(id)) return { id, socket, isOpen: false };
      const owner = readOwner(join(dataDir, 'hosts', `${id}.json`));
      const pid = owner === undefined ? undefined : livingPid(owner);
      return { id, socket, isOpen: isOfThisBoot(owner), ...(pid === undefined ? {} : { pid }) };
    });
}

function namesIn(folder: string, ending: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => name.endsWith(ending));
    return names.map((name) => name.slice(0, -ending.length));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function readOwner(path: string): HostRecord['owner'] {
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as HostRecord | null)?.owner;
  } catch {
    return undefined;
  }
}

/** Nothing outlives a boot. What cannot be read may be of this one. */
function isOfThisBoot(owner: HostRecord['owner']): boolean {
  const bootId = readText('/proc/sys/kernel/random/boot_id')?.trim();
  return typeof owner?.bootId !== 'string' || bootId === undefined || owner.bootId === bootId;
}

/** The pid, where the process that wrote the record still has it. */
function livingPid({ pid, startTime }: NonNullable<HostRecord['owner']>): number | undefined {
  if (typeof pid !== 'number') return undefined;
  const stat = readText(`/proc/${pid}/stat`);
  // Behind the command, which may hold anything: state is field 3, the start time field 22.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return fields[0] !== 'Z' && fields[19] === String(startTime) ? pid : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
