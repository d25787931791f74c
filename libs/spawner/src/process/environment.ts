import { BelayError } from '#libs/contracts';
import { COOKIE_VARIABLE, WORKER_COOKIE_VARIABLE } from './sweep';

/** The worker's variables that an agent gets. It gets no others, so no token or server address leaks. */
const ALLOWED = new Set(['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'USER', 'LOGNAME', 'SHELL']);
const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin';

export interface Cookies {
  readonly agent: string;
  readonly worker: string;
}

/** The part of the worker's environment that agents get. Taken once, because reading process.env is slow. */
export function allowedEnvironment(own: NodeJS.ProcessEnv): Record<string, string> {
  const allowed: Record<string, string> = { PATH: DEFAULT_PATH };
  for (const [name, value] of Object.entries(own))
    if (value !== undefined && (ALLOWED.has(name) || name.startsWith('LC_'))) allowed[name] = value;
  return { ...allowed, PATH: withoutNpmFolders(allowed['PATH'] ?? DEFAULT_PATH) };
}

/**
 * The PATH before `npm start` or `npx` changed it. npm puts the `node_modules/.bin` of each folder up to the root in front,
 * then its own `node-gyp-bin`. Agents are not part of that package, and its tools must not shadow theirs. A `node_modules/.bin`
 * that a person added has no `node-gyp-bin` behind it, and stays.
 */
export function withoutNpmFolders(path: string): string {
  const folders = path.split(':');
  for (;;) {
    const own = folders.findIndex((folder) => !folder.endsWith('/node_modules/.bin'));
    if (folders[own]?.endsWith('/node-gyp-bin') !== true) return folders.join(':');
    folders.splice(0, own + 1);
  }
}

/** For an agent with a user of its own: without the names of the worker's user. */
export function isolatedEnvironment(
  allowed: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const { USER: _, LOGNAME: __, ...rest } = allowed;
  return { ...rest, ...own };
}

/**
 * The environment of one agent: the worker's allowed variables, then the spec's, then the cookies, which no spec can replace.
 * @throws BelayError SPAWN_FAILED, reason BAD_ENV.
 */
export function buildEnvironment(
  allowed: Readonly<Record<string, string>>,
  requested: Readonly<Record<string, string>>,
  cookies: Cookies,
): Record<string, string> {
  const environment: Record<string, string> = { ...allowed };
  for (const [name, value] of Object.entries(requested)) {
    if (name === '' || name.includes('=') || name.includes('\0') || value.includes('\0'))
      throw new BelayError(
        'SPAWN_FAILED',
        `The environment variable ${JSON.stringify(name)} cannot be set: a name must not be empty or contain "=", and neither name nor value may contain a zero byte.`,
        { details: { reason: 'BAD_ENV', name } },
      );
    environment[name] = value;
  }
  environment[COOKIE_VARIABLE] = cookies.agent;
  environment[WORKER_COOKIE_VARIABLE] = cookies.worker;
  return environment;
}
