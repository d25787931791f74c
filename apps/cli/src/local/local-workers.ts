import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { isWorkerId } from '#libs/contracts';
import { breakGlassPath } from '#libs/client';
import { isLiving } from '../session/living-process';
import { readWithoutWait } from '../session/read-without-wait';

/** A socket that accepts no connection within this time belongs to a busy worker. Milliseconds. */
const LISTENING_MS = 1_000;

/** A worker of this machine, by its files in the data dir. */
export interface LocalWorker {
  readonly id: string;
  /** The socket on which it answers without the server. */
  readonly socket: string;
  /** Whether processes of the worker may be left: the file that says so is removed when its trees were seen dead. */
  readonly isOpen: boolean;
  /** The pid of its process, while that lives and this PID namespace shows it. */
  readonly pid?: number;
  /** Machines share the data dir on a volume: the socket does not work from here, and this machine must not remove it. */
  readonly isElsewhere?: true;
}

/** A worker's record of itself below `hosts/`: the fields that are read here. */
interface HostRecord {
  readonly owner?: { readonly pid?: unknown; readonly startTime?: unknown; readonly bootId?: unknown };
  readonly place?: { readonly machineId?: unknown; readonly pidNamespace?: unknown };
}

/**
 * Workers that live or may have left processes to end. A socket without a listener and without a record was left by a worker
 * whose trees were seen dead: it is removed.
 */
export async function livingWorkers(workers: readonly LocalWorker[]): Promise<LocalWorker[]> {
  const found = await Promise.all(
    workers.map(async (worker) => {
      if (worker.isElsewhere === true) return undefined;
      if (worker.isOpen || worker.pid !== undefined || (await isListening(worker.socket))) return worker;
      rmSync(worker.socket, { force: true });
      return undefined;
    }),
  );
  return found.filter((worker) => worker !== undefined);
}

/** False only where it is certain that nobody listens. */
async function isListening(socket: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = connect(socket);
    const settle = (is: boolean): void => {
      probe.destroy();
      resolve(is);
    };
    probe.setTimeout(LISTENING_MS, () => settle(true));
    probe.once('connect', () => settle(true));
    probe.once('error', ({ code }: NodeJS.ErrnoException) =>
      settle(code !== 'ECONNREFUSED' && code !== 'ENOENT'),
    );
  });
}

/**
 * Every worker with a socket or a record in this data dir, whether or not it lives.
 *
 * @throws the system's error for a folder of another user.
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
      const { owner, place } = readRecord(join(dataDir, 'hosts', `${id}.json`));
      const pid = isLiving(owner) && isShownHere(place) ? owner.pid : undefined;
      const isOpen = isOfThisBoot(owner);
      const isElsewhere = !isOpen && isOfAnotherMachine(place);
      return {
        id,
        socket,
        isOpen,
        ...(pid === undefined ? {} : { pid }),
        ...(isElsewhere ? { isElsewhere } : {}),
      };
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

function readRecord(path: string): HostRecord {
  try {
    return (JSON.parse(readWithoutWait(path)) as HostRecord | null) ?? {};
  } catch {
    return {};
  }
}

/** The pid of a container's process names another process here. */
function isShownHere(place: HostRecord['place']): boolean {
  if (place === undefined) return true;
  try {
    return readlinkSync('/proc/self/ns/pid') === place.pidNamespace;
  } catch {
    return true;
  }
}

function isOfAnotherMachine(place: HostRecord['place']): boolean {
  return place !== undefined && readText('/etc/machine-id')?.trim() !== place.machineId;
}

/** No process outlives a boot. An unreadable record may be of this boot. */
function isOfThisBoot(owner: HostRecord['owner']): boolean {
  const bootId = readText('/proc/sys/kernel/random/boot_id')?.trim();
  return typeof owner?.bootId !== 'string' || bootId === undefined || owner.bootId === bootId;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
