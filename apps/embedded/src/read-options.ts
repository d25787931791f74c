import {
  BelayError,
  isBelayError,
  NameSuggester,
  readSettings,
  SETTINGS,
  type Problem,
  type Settings,
} from '#libs/contracts';
import type { BelayOptions } from './embedded-options';

/** Each option that is a setting, by its path. */
const SETTING_OF: ReadonlyMap<string, keyof Settings> = new Map<string, keyof Settings>([
  ['url', 'valkeyUrl'],
  ['worker.concurrency', 'workerConcurrency'],
  ['worker.pools', 'pools'],
  ['http.host', 'httpHost'],
  ['http.port', 'httpPort'],
  ['http.token', 'token'],
  ...(
    [
      'dataDir',
      'workDir',
      'keyPrefix',
      'queuePrefix',
      'shards',
      'graceMs',
      'stopTimeoutMs',
      'leaseTtlMs',
      'heartbeatMs',
      'fenceAfterMs',
      'proofLimitMs',
      'proof',
      'retentionMs',
      'maxEnded',
      'maxStateMb',
      'containment',
      'isolation',
      'agentUids',
      'cgroupParent',
      'native',
      'otlpEndpoint',
      'webhooksFile',
    ] as const
  ).map((key) => [key, key] as const),
]);
const OTHERS = ['worker', 'http', 'handleSignals', 'log', 'onNotice'];
const GROUPS = ['worker', 'http'];
/** Options without which nothing works. */
const NEEDED = ['url', 'http.token'];

const VARIABLE_OF = new Map(SETTINGS.map(({ key, name }) => [key, name]));
const OPTION_OF = new Map([...SETTING_OF].map(([path, key]) => [VARIABLE_OF.get(key) ?? '', path]));

/**
 * The settings of the options, checked by the same table as the programs' variables.
 * @throws BelayError INVALID_SETTINGS with every problem; `path` is the option's, such as `worker.concurrency`
 */
export function readOptions(options: BelayOptions): Settings & { readonly valkeyUrl: string } {
  if (typeof options !== 'object' || options === null)
    throw new BelayError('INVALID_SETTINGS', 'The options must be an object, such as { url }.');
  const given = flatten(options);
  const environment: Record<string, string> = {};
  const problems: Problem[] = otherProblems(options);
  for (const path of NEEDED)
    if (!given.has(path) && (path === 'url' || options.http !== undefined)) given.set(path, '');
  for (const [path, value] of given) {
    const key = SETTING_OF.get(path);
    if (key === undefined) problems.push(unknownOption(path));
    else if (isEmpty(value)) problems.push(emptyOption(path, key));
    else environment[VARIABLE_OF.get(key) ?? ''] = String(value);
  }
  try {
    const settings = readSettings(environment);
    if (problems.length === 0) return { ...settings, valkeyUrl: settings.valkeyUrl ?? '' };
  } catch (error) {
    if (!isBelayError(error)) throw error;
    problems.push(...error.problems.map(inOptions));
  }
  const lines = problems.map(({ path, message }) => `${path}: ${message}`);
  const head = lines.length === 1 ? 'One option is' : `${lines.length} options are`;
  throw new BelayError('INVALID_SETTINGS', `${head} not valid.\n  ${lines.join('\n  ')}`, { problems });
}

const isObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** For each option that is no setting: a check of its value, and its rule in words. */
const OTHER_RULES: Readonly<Record<string, readonly [(value: unknown) => boolean, string]>> = {
  worker: [(value) => value === false || isObject(value), 'false, or an object with concurrency and pools'],
  http: [isObject, 'an object with token, host and port'],
  handleSignals: [(value) => typeof value === 'boolean', 'true or false'],
  log: [
    (value) =>
      isObject(value) &&
      ['debug', 'info', 'warn', 'error', 'fatal'].every(
        (level) => typeof (value as Record<string, unknown>)[level] === 'function',
      ),
    'an object with the methods debug, info, warn, error and fatal',
  ],
  onNotice: [(value) => typeof value === 'function', 'a function'],
};

function otherProblems(options: BelayOptions): Problem[] {
  return Object.entries(options as unknown as Record<string, unknown>).flatMap(([path, value]) => {
    const [holds, rule] = (Object.hasOwn(OTHER_RULES, path) ? OTHER_RULES[path] : undefined) ?? [];
    if (value === undefined || holds === undefined || holds(value)) return [];
    return [{ path, code: 'BAD_VALUE', message: `must be ${rule}.` }];
  });
}

/** Every given option by its path, without those that are no settings. */
function flatten(options: BelayOptions): Map<string, unknown> {
  const found = new Map<string, unknown>();
  for (const [name, value] of Object.entries(options) as [string, unknown][]) {
    if (value === undefined) continue;
    if (!OTHERS.includes(name)) found.set(name, value);
    else if (GROUPS.includes(name) && typeof value === 'object' && value !== null)
      for (const [part, inner] of Object.entries(value))
        if (inner !== undefined) found.set(`${name}.${part}`, inner);
  }
  return found;
}

function isEmpty(value: unknown): boolean {
  return value === null || value === '' || (Array.isArray(value) && value.length === 0);
}

function emptyOption(path: string, key: keyof Settings): Problem {
  const rule = SETTINGS.find((setting) => setting.key === key)?.kind.rule ?? 'given';
  return { path, code: 'BAD_VALUE', message: `must be ${rule}; it is not given.` };
}

function unknownOption(path: string): Problem {
  const near = new NameSuggester().nearest(path, [...SETTING_OF.keys(), ...OTHERS]);
  const hint = near === undefined ? 'see docs/embedding.md for those it has.' : `did you mean ${near}?`;
  return { path, code: 'UNKNOWN_OPTION', message: `Belay has no such option; ${hint}` };
}

/** A problem of a variable, in terms of the given option. */
function inOptions({ path, code, message }: Problem): Problem {
  return {
    path: OPTION_OF.get(path) ?? path,
    code,
    message: message.replaceAll(/BELAY_[A-Z_]+/g, (name) => OPTION_OF.get(name) ?? name),
  };
}
