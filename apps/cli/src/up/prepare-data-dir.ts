import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, openSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { BelayError } from '#libs/contracts';
import { isOpenToOthers, modeOf, readTokenFile, type DataDir } from '../session/data-dir';

/** Makes the data dir for its owner alone. One that is open to others is closed: it holds the admin token. */
export function prepareDataDir(dataDir: DataDir): void {
  try {
    mkdirSync(dataDir.path, { recursive: true, mode: 0o700 });
    mkdirSync(dataDir.logs, { recursive: true, mode: 0o700 });
    if (isOpenToOthers(modeOf(dataDir.path) ?? 0)) chmodSync(dataDir.path, 0o700);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new BelayError(
      'INVALID_SETTINGS',
      `The data dir cannot be used (${why}). Name another: --data-dir PATH`,
      {
        cause,
      },
    );
  }
}

/** The admin token: the one given, the one kept, or a new one, kept from now on. */
export function ensureToken(dataDir: DataDir, given: string | undefined): string {
  if (given !== undefined) return given;
  const kept = readTokenFile(dataDir.token);
  if (kept !== undefined) {
    if (isOpenToOthers(modeOf(dataDir.token) ?? 0)) chmodSync(dataDir.token, 0o600);
    return kept;
  }
  const token = randomBytes(32).toString('base64url');
  // `wx`: of two that start at once one makes the token and the other reads it.
  try {
    writeFileSync(dataDir.token, `${token}\n`, { mode: 0o600, flag: 'wx' });
    return token;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const other = readTokenFile(dataDir.token);
    if (other !== undefined) return other;
    // An empty file is what a crash between open and write leaves.
    writeFileSync(dataDir.token, `${token}\n`, { mode: 0o600 });
    return token;
  }
}

/** Opens a log for appending, readable by its owner alone; a large one makes room first. */
export function openLog(path: string): number {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, 'a', 0o600);
}

const LOG_BYTES = 16 * 1024 * 1024;
