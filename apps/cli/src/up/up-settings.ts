import { readSettings, type Settings } from '#libs/contracts';

/** Variables of the CLI alone: the servers' settings refuse names that they do not know. */
const OF_THE_CLI = new Set(['BELAY_URL']);

export interface UpFlags {
  readonly workers?: number;
  readonly port?: number;
  /** An absolute path; absent where no flag named one. */
  readonly dataDir?: string;
}

/** The environment of Belay's processes: the caller's, with the flags applied. */
export function processEnvironment(env: NodeJS.ProcessEnv, flags: UpFlags): NodeJS.ProcessEnv {
  const own = Object.fromEntries(Object.entries(env).filter(([name]) => !OF_THE_CLI.has(name)));
  return {
    ...own,
    ...(flags.dataDir === undefined ? {} : { BELAY_DATA_DIR: flags.dataDir }),
    ...(flags.workers === undefined ? {} : { BELAY_WORKERS: String(flags.workers) }),
    ...(flags.port === undefined ? {} : { BELAY_HTTP_PORT: String(flags.port) }),
  };
}

/** All settings, checked before anything is started. @throws BelayError INVALID_SETTINGS with every fault */
export function readUpSettings(env: NodeJS.ProcessEnv): Settings {
  return readSettings(env);
}
