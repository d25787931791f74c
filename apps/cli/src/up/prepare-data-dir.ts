import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { BelayError } from '#libs/contracts';
import { isOpenToOthers, modeOf, readTokenFile, type DataDir } from '../session/data-dir';

/** Makes the data dir for its owner alone. One that is open to others is closed, since it contains the admin token. */
export function prepareDataDir(dataDir: DataDir): void {
  try {
    mkdirSync(dataDir.path, { recursive: true, mode: 0o700 });
    mkdirSync(dataDir.logs, { recursive: true, mode: 0o700 });
    if (isOpenToOthers(modeOf(dataDir.path) ?? 0)) chmodSync(dataDir.path, 0o700);
    tryToWrite(join(dataDir.path, `probe.${process.pid}`));
  } catch (cause) {
    throw unusable(dataDir, cause as NodeJS.ErrnoException);
  }
}

/** On a full disk every later step would fail for its own reason, and none would name the disk. */
function tryToWrite(path: string): void {
  try {
    writeFileSync(path, Buffer.alloc(PROBE_BYTES), { mode: 0o600 });
  } finally {
    rmSync(path, { force: true });
  }
}

const PROBE_BYTES = 256 * 1024;

function unusable({ path }: DataDir, cause: NodeJS.ErrnoException): BelayError {
  const { words, act = '' } = FAULTS[cause.code ?? ''] ?? { words: cause.message };
  return new BelayError(
    'INVALID_SETTINGS',
    `The data dir ${path} cannot be used: ${words}. ${act}${act === '' ? 'N' : ', or n'}ame another: --data-dir PATH`,
    { cause, details: { path, ...(cause.code === undefined ? {} : { cause: cause.code }) } },
  );
}

const FAULTS: Readonly<Record<string, { readonly words: string; readonly act?: string }>> = {
  ENOSPC: { words: 'no space is left on its disk', act: 'Free some' },
  EDQUOT: { words: 'your quota on its disk is used up', act: 'Free some' },
  EROFS: { words: 'its file system is mounted read-only' },
  EACCES: { words: 'this user may not write there' },
  EPERM: { words: 'this user may not write there' },
  EEXIST: { words: 'it is a file, not a directory' },
  ENOTDIR: { words: 'a part of its path is a file, not a directory' },
};

/** The admin token: the given one, the stored one, or a new one that is stored from now on. */
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
    // A crash between open and write leaves an empty file.
    writeFileSync(dataDir.token, `${token}\n`, { mode: 0o600 });
    return token;
  }
}

/**
 * Opens a log for appending, readable by its owner alone. A large log is moved aside first, and so is anything that is no file:
 * an agent of the same user can put a FIFO there, whose opening waits for a reader, or a link to another file of the user.
 */
export function openLog(path: string): number {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && (!there.isFile() || there.size > LOG_BYTES)) renameSync(path, `${path}.1`);
  return openSync(path, APPEND_WITHOUT_WAIT, 0o600);
}

const APPEND_WITHOUT_WAIT =
  constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOFOLLOW;
const LOG_BYTES = 16 * 1024 * 1024;
