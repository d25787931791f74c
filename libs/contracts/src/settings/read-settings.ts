import { BelayError, type Problem } from '../errors';
import { showValue } from '../spec-validation/show-value';
import { NameSuggester } from '../spec-validation/suggest-name';
import { checkFencing, deriveFenceAfter, fenceGraceOf } from './check-fencing';
import { type Setting, SETTINGS } from './setting-table';
import { type Settings, type SettingSource } from './settings.types';
import { parseValkeyUrl } from './valkey-url';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Names of the agent protocol. A `belay` that an agent started finds them in its environment. */
const AGENT_VARIABLES: ReadonlySet<string> = new Set(
  ['EXECUTION_ID', 'NODE_ID', 'AGENT_ID', 'ATTEMPT', 'EPOCH', 'WORKER_ID', 'COOKIE', 'WORKER_COOKIE'].map(
    (name) => `BELAY_${name}`,
  ),
);
/** The prefix of variables that only the project's own tests use. */
const TEST_PREFIX = 'BELAY_TEST_';

/**
 * Reads and checks all settings. An empty variable counts as not set. Variables of other programs are ignored. A `BELAY_` name
 * that Belay does not know is a fault, since it is most often a typing error.
 *
 * @throws BelayError `INVALID_SETTINGS` with every fault at once; no message contains a secret.
 */
export function readSettings(env: Environment): Settings {
  const problems: Problem[] = [];
  const values: Partial<Record<keyof Settings, unknown>> = {};
  const sources: Record<string, SettingSource> = {};
  for (const setting of SETTINGS) {
    const text = env[setting.name] ?? '';
    const written = text === '' ? setting.fallback : text;
    sources[setting.name] = sourceOf(setting, text);
    if (written === undefined) continue;
    const value = setting.kind.parse(written);
    if (value === undefined) problems.push(badValue(setting, written));
    else values[setting.key] = value;
  }
  problems.push(...findUnknown(env));
  if (problems.length > 0) throw invalidSettings(problems);
  const settings = derive(values as ReadValues, sources);
  const faults = [...checkFencing(settings), ...checkQueuePrefix(settings), ...checkIsolation(settings)];
  if (faults.length > 0) throw invalidSettings(faults);
  return settings;
}

function sourceOf(setting: Setting, text: string): SettingSource {
  if (text !== '') return 'environment';
  return setting.key === 'fenceAfterMs' ? 'derived' : 'default';
}

/** The settings of the table, without those computed from them. */
type ReadValues = Omit<Settings, 'sources' | 'fenceGraceMs' | 'fenceAfterMs'> & {
  readonly fenceAfterMs?: number;
};

function derive(read: ReadValues, sources: Settings['sources']): Settings {
  const fenceGraceMs = fenceGraceOf(read.graceMs, read.leaseTtlMs);
  const fenceAfterMs = read.fenceAfterMs ?? deriveFenceAfter(read.leaseTtlMs, fenceGraceMs);
  const tagged = sources['BELAY_QUEUE_PREFIX'] === 'default' && isCluster(read);
  if (!tagged) return { ...read, fenceGraceMs, fenceAfterMs, sources };
  return {
    ...read,
    queuePrefix: `{${read.queuePrefix}}`,
    fenceGraceMs,
    fenceAfterMs,
    sources: { ...sources, BELAY_QUEUE_PREFIX: 'derived' },
  };
}

function isCluster({ valkeyUrl }: Pick<Settings, 'valkeyUrl'>): boolean {
  const address = valkeyUrl === undefined ? undefined : parseValkeyUrl(valkeyUrl);
  return typeof address === 'object' && address.mode === 'cluster';
}

/** BullMQ's scripts touch many keys of a queue. On a Cluster these must be in one slot. */
function checkQueuePrefix(settings: Settings): Problem[] {
  const { queuePrefix } = settings;
  if (!isCluster(settings) || /\{[^{}]+\}/.test(queuePrefix)) return [];
  const bare = queuePrefix.replaceAll(/[{}]/g, '') || 'bull';
  const message = `must have a hash tag on a Cluster, such as {${bare}}; it is ${showValue(queuePrefix)}.`;
  return [{ path: 'BELAY_QUEUE_PREFIX', code: 'NO_HASH_TAG', message }];
}

/** Without isolation `user`, uids would make a person believe that agents have users of their own. */
function checkIsolation({ isolation, agentUids }: Settings): Problem[] {
  if ((isolation === 'user') === (agentUids !== undefined)) return [];
  const message =
    agentUids === undefined
      ? 'must be given with BELAY_ISOLATION=user: user ids that no account has, such as 70000-70999.'
      : `is valid with BELAY_ISOLATION=user only; it is ${showValue(isolation)}.`;
  return [{ path: 'BELAY_AGENT_UIDS', code: 'ISOLATION', message }];
}

function badValue(setting: Setting, text: string): Problem {
  const hidden = setting.kind.fault?.(text) ?? 'its value is not shown';
  const found = setting.secret === true ? hidden : `it is ${showValue(text)}`;
  return { path: setting.name, code: 'BAD_VALUE', message: `must be ${setting.kind.rule}; ${found}.` };
}

function findUnknown(env: Environment): Problem[] {
  const known = new Set(SETTINGS.map((setting) => setting.name));
  const suggester = new NameSuggester();
  return Object.keys(env)
    .filter((name) => name.startsWith('BELAY_') && env[name] !== undefined)
    .filter((name) => !known.has(name) && !AGENT_VARIABLES.has(name) && !name.startsWith(TEST_PREFIX))
    .sort()
    .map((name) => {
      const near = suggester.nearest(name, known);
      const hint = near === undefined ? 'see belay doctor for those it reads.' : `did you mean ${near}?`;
      return { path: name, code: 'UNKNOWN_SETTING', message: `Belay has no such setting; ${hint}` };
    });
}

function invalidSettings(problems: readonly Problem[]): BelayError {
  const lines = problems.map(({ path, message }) => `${path}: ${message}`);
  const head = lines.length === 1 ? 'One setting is' : `${lines.length} settings are`;
  return new BelayError('INVALID_SETTINGS', `${head} not valid.\n  ${lines.join('\n  ')}`, { problems });
}
