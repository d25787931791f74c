import { runCommand } from './run-command';
import type { ServerVersion } from './types';

/** The oldest server that Belay works with: its scripts use features of 7.0. */
export const OLDEST_SERVER = '7.0';

/** Asks a server program for its version. A sentence when that fails. */
export async function readBinaryVersion(
  path: string,
  libraryPath?: string,
): Promise<ServerVersion | { readonly failure: string }> {
  const env = libraryPath === undefined ? process.env : { ...process.env, LD_LIBRARY_PATH: libraryPath };
  const ran = await runCommand(path, ['--version'], { timeoutMs: 5_000, env });
  if (ran.code !== 0) return { failure: ran.failure };
  return (
    parseVersionLine(ran.stdout) ?? { failure: `it printed no version: ${ran.stdout.trim().slice(0, 80)}` }
  );
}

/** Parses `Valkey server v=8.0.1 sha=…` and `Redis server v=7.0.15 sha=…`. */
export function parseVersionLine(line: string): ServerVersion | undefined {
  const match = /^(valkey|redis) server v=(\d+\.\d+[^\s]*)/i.exec(line.trim());
  if (match === null) return undefined;
  return { name: match[1]?.toLowerCase() === 'valkey' ? 'valkey' : 'redis', version: match[2] ?? '' };
}

/** Parses the server section of INFO; Valkey also claims a redis_version, for old clients. */
export function parseInfoVersion(info: string): ServerVersion | undefined {
  const valkey = /^valkey_version:(\S+)/m.exec(info)?.[1];
  if (valkey !== undefined) return { name: 'valkey', version: valkey };
  const redis = /^redis_version:(\S+)/m.exec(info)?.[1];
  return redis === undefined ? undefined : { name: 'redis', version: redis };
}

/** Whether a server of this version can keep Belay's state. */
export function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_SERVER.split('.').map(Number);
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}
