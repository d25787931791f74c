import { accessSync, constants } from 'node:fs';
import { isBelayError, type Settings, type WorkerRecord } from '#libs/contracts';
import { isOpenToOthers, modeOf, type DataDir } from '../session/data-dir';
import { fail, ok, warn, type Check } from './check';

const OLDEST_NODE = [20, 19] as const;

export function checkNode(version: string): Check {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  const isNewEnough = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
  if (isNewEnough) return ok('node', `Node ${version}`);
  return fail('node', `Node ${version} is too old`, `install Node ${OLDEST_NODE.join('.')} or later`);
}

/** Checks the data dir and its token: they exist, are writable, and nobody else can read them. */
export function checkDataDir(dataDir: DataDir): Check[] {
  const mode = modeOf(dataDir.path);
  if (mode === undefined) return [warn('data dir', `${dataDir.path} is not there`, 'belay up makes it')];
  const checks: Check[] = [];
  if (isOpenToOthers(mode))
    checks.push(fail('data dir', `${dataDir.path} is open to others`, `chmod 700 ${dataDir.path}`));
  else if (!isWritable(dataDir.path))
    checks.push(fail('data dir', `${dataDir.path} is not writable`, 'give it to this user, or name another'));
  else checks.push(ok('data dir', dataDir.path));
  const tokenMode = modeOf(dataDir.token);
  if (tokenMode === undefined)
    checks.push(warn('token file', `${dataDir.token} is not there`, 'belay up makes it'));
  else if (isOpenToOthers(tokenMode))
    checks.push(fail('token file', `${dataDir.token} is open to others`, `chmod 600 ${dataDir.token}`));
  else checks.push(ok('token file', dataDir.token));
  return checks;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The settings, or every fault in them. */
export function checkSettings(read: () => Settings): { checks: Check[]; settings?: Settings } {
  try {
    const settings = read();
    const given = Object.values(settings.sources).filter((source) => source === 'environment').length;
    return { checks: [ok('settings', `valid; ${given} from the environment`)], settings };
  } catch (error) {
    if (!isBelayError(error)) throw error;
    if (error.problems.length === 0) return { checks: [fail('settings', error.message)] };
    return { checks: error.problems.map(({ path, message }) => fail('settings', `${path} ${message}`)) };
  }
}

/** The containment and the proofs of a live worker, by its record. */
export type Holding = Pick<WorkerRecord, 'containment' | 'grade'>;

/** Whether its proofs rest on marks only. */
export function isByMarks({ containment, grade }: Holding): boolean {
  return grade === 'marks' || (grade === undefined && containment === 'marks');
}

/** The containment of the live workers; `workers` is undefined where nobody could list them. */
export function checkContainment(workers: readonly Holding[] | undefined): Check {
  if (workers === undefined)
    return warn('containment', 'not known: the orchestrator could not tell which workers run');
  const kinds = [...new Set(workers.map(({ containment }) => containment))];
  if (kinds.length === 0) return warn('containment', 'unknown until a worker runs', 'belay up');
  const isByKernel = !workers.some(isByMarks);
  if (isByKernel && kinds.every((kind) => kind === 'cgroup'))
    return ok('containment', 'cgroup: a whole tree dies at once');
  if (isByKernel)
    return ok('containment', `${kinds.join(' and ')}: nothing that an agent starts can leave unseen`);
  return warn(
    'containment',
    `${kinds.join(' and ')}: proofs rest on marks; an agent that strips its marks on purpose is not seen`,
    'for proofs by the kernel install koffi, and leave BELAY_NATIVE at auto',
  );
}

/** Whether workers here can make PID namespaces, where the settings ask for them. A worker tries it out at its start. */
export async function checkNamespace(
  containment: Settings['containment'] | undefined,
  missing?: () => string | undefined,
): Promise<Check[]> {
  if (containment !== 'namespace') return [];
  const look = missing ?? (await import('#libs/spawner')).namespaceMissing;
  const reason = look();
  if (reason === undefined) return [ok('namespaces', 'the programs that make PID namespaces are there')];
  const advice = 'set BELAY_CONTAINMENT=auto, which needs none of them';
  return [fail('namespaces', `BELAY_CONTAINMENT=namespace, and no worker can start: ${reason}`, advice)];
}

/** The isolation of the live workers; `workers` is undefined where nobody could list them. */
export function checkIsolation(workers: readonly { readonly isolation: string }[] | undefined): Check {
  if (workers === undefined)
    return warn('isolation', 'not known: the orchestrator could not tell which workers run');
  const kinds = [...new Set(workers.map(({ isolation }) => isolation))];
  if (kinds.length === 0) return warn('isolation', 'unknown until a worker runs', 'belay up');
  if (!kinds.includes('same-user'))
    return ok('isolation', `${kinds.join(' and ')}: agents cannot reach Belay`);
  return warn(
    'isolation',
    `${kinds.join(' and ')}: an agent can do what the user of its worker can`,
    'for commands that you do not trust set BELAY_ISOLATION (docs/isolation.md)',
  );
}

/** Whether workers here can use libc for the calls that Node does not offer. */
export async function checkNative(native: Settings['native'] | undefined): Promise<Check> {
  if (native === 'off')
    return warn('native layer', 'off (BELAY_NATIVE)', 'unset BELAY_NATIVE: signals by pidfd need it');
  const { nativeState } = await import('#libs/spawner');
  const state = nativeState();
  if (state.available) return ok('native layer', `${state.libc}, through koffi`);
  return warn(
    'native layer',
    `not there: ${state.reason}; Node's own means are used`,
    'install with optional packages (npm ci --include=optional) on Linux x64 or arm64',
  );
}
