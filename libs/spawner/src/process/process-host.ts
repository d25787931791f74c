import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { BelayError } from '#libs/contracts';
import { canSpawn, openLibc, type Libc } from '../native';
import { newCookie } from './agent-starts';
import { chooseContainment, type ChosenContainment } from './containment';
import { descentMissing } from './descent';
import { Guardian } from './guardian';
import { Host, NAME } from './host';
import { hostPlace, requireOwnProc } from './host-place';
import * as records from './host-record';
import { chooseIsolation, type ChosenIsolation } from './isolation';
import type { ProcessHost, ProcessHostOptions } from './process-host.types';
import { reapDeadWorkers } from './reap-dead-workers';
import { tryIsolation } from './try-isolation';
import { tryNamespace } from './try-namespace';
import { proofPath } from './worker-proof';

/**
 * Reaps dead workers of the data directory, chooses the containment, and starts the guardian.
 * @throws BelayError INVALID_SETTINGS (worker id taken, or a required cgroup or isolation does not work), SPAWN_FAILED (no
 *   guardian).
 */
export async function createProcessHost(options: ProcessHostOptions): Promise<ProcessHost> {
  const { workerId } = options;
  const dataDir = resolve(options.dataDir);
  if (!NAME.test(workerId))
    throw new BelayError('INVALID_SETTINGS', `The worker id ${JSON.stringify(workerId)} must match ${NAME}.`);
  requireOwnProc();
  const libc = libcFor(options);
  const { checkSeal, onReaped } = options;
  const reaped = options.reap === false ? [] : await reapDeadWorkers(dataDir, { checkSeal, libc, onReaped });
  requireFree(dataDir, workerId);
  const chosen = chooseContainment(options);
  const cookie = newCookie();
  const proofKey = randomBytes(32).toString('hex');
  const cgroup = chosen.cgroup?.path;
  const descends = holdsByDescent(chosen, options) ? libc : undefined;
  let isolated: ChosenIsolation | undefined;
  let host: Host;
  try {
    records.makeFolder(dataDir);
    isolated = await chooseIsolation({ ...options, dataDir }, libc);
    const uids = isolated.marks;
    const record = {
      version: 2 as const,
      workerId,
      owner: records.ownIdentity(),
      place: hostPlace(),
      containment: chosen.containment,
      cookie,
      ...(cgroup === undefined ? {} : { cgroup }),
      ...(uids === undefined ? {} : { uids }),
    };
    records.writeRecord(dataDir, record, proofKey);
    const guardian = await Guardian.start({
      marks: { cookie, cgroup, uids },
      native: libc !== undefined,
      // So orphans become the guardian's children, also when this process is gone.
      starts: descends !== undefined && canSpawn(descends) ? descends : undefined,
      remove: records.pathsOf(dataDir, workerId),
      dataDir,
      proof: { path: proofPath(dataDir, workerId), workerId, containment: chosen.containment, key: proofKey },
    });
    const parts = { chosen, isolated, reaped, cookie, proofKey, guardian, libc, descends };
    host = new Host({ ...options, dataDir }, parts);
  } catch (error) {
    await isolated?.close?.();
    chosen.cgroup?.remove();
    await records.removeRecord(dataDir, workerId);
    throw error;
  }
  try {
    if (host.containment === 'namespace') await tryNamespace(host);
    if (isolated.prepare !== undefined) await tryIsolation(host);
    return host;
  } catch (error) {
    await host.close();
    throw error;
  }
}

function libcFor({ native }: Pick<ProcessHostOptions, 'native'>): Libc | undefined {
  if (native === 'off') return undefined;
  const found = openLibc();
  return 'libc' in found ? found.libc : undefined;
}

/**
 * Whether trees are contained by descent: in containment `descent`, and beside a cgroup, since an agent that may write another
 * cgroup leaves its own. There the paths of cgroups must be known, or an orphan inside would pass for an escapee.
 */
function holdsByDescent(
  { containment, cgroup }: ChosenContainment,
  { native }: Pick<ProcessHostOptions, 'native'>,
): boolean {
  if (containment === 'marks') return false;
  return descentMissing(native) === undefined && (cgroup === undefined || cgroup.shownAs !== undefined);
}

/** A record of another worker with this id must not be overwritten: it is the only way to the trees of that worker. */
function requireFree(dataDir: string, workerId: string): void {
  const earlier = records.readRecord(dataDir, workerId);
  const state = earlier === undefined ? undefined : records.ownerState(earlier);
  if (earlier === undefined || (state !== 'alive' && state !== 'unseen')) return;
  const { pid } = earlier.owner;
  const message =
    state === 'alive'
      ? `Worker ${workerId} runs already as process ${pid}. Give this one another id or data directory.`
      : `Worker ${workerId} is recorded in ${dataDir} by another PID namespace or machine, and may be running there. Give this one another id or data directory; if the other one is surely gone, remove ${records.HOSTS_FOLDER}/${workerId}.json.`;
  throw new BelayError('INVALID_SETTINGS', message, { details: { workerId, pid } });
}
