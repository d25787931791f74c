import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

const USERNAME = 'belay';
const PASSWORD_FILE = 'password';
const ACL_FILE = 'users.acl';
const URL_FILE = 'url';
const PASSWORD = /^[\w-]{32,}$/;

/** The only user of a local server: a client without the password gets NOAUTH. */
export interface ServerLogin {
  readonly username: string;
  readonly password: string;
  /** The server reads this file in place of the password: it contains a hash. */
  readonly aclFile: string;
}

/** The name of the users' file in the data directory, for a server that has the directory mounted elsewhere. */
export const aclFileName = ACL_FILE;

/**
 * The login of the server on this data directory: the stored one, or a new one that is stored from now on. So clients that
 * outlive the server reach the next one. Only the owner can read the files.
 *
 * @param known the login of a server that is started again: its clients have this password, even if the files are gone.
 */
export function keepLogin(dir: string, known?: ServerLogin): ServerLogin {
  const password =
    known?.password ?? readKept(join(dir, PASSWORD_FILE)) ?? randomBytes(32).toString('base64url');
  writeAtomically(join(dir, PASSWORD_FILE), `${password}\n`);
  const hash = createHash('sha256').update(password).digest('hex');
  const aclFile = join(dir, ACL_FILE);
  // Nobody can log in as `default`. But the server replays the transactions of its append-only file with that user's rights,
  // and drops each command that the user may not run.
  const all = '~* &* +@all';
  writeAtomically(aclFile, `user default off resetpass ${all}\nuser ${USERNAME} on #${hash} ${all}\n`);
  return { username: USERNAME, password, aclFile };
}

/** Stores the whole address in a file for BELAY_VALKEY_URL_FILE. Returns the file's path. */
export function keepUrl(dir: string, url: string): string {
  const path = join(dir, URL_FILE);
  writeAtomically(path, `${url}\n`);
  return path;
}

/** Reads a stored password, if this user alone could read its file; any other file is replaced. Does not wait on a FIFO. */
function readKept(path: string): string | undefined {
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    const found = fstatSync(file);
    if (!found.isFile() || found.uid !== process.getuid?.() || (found.mode & 0o077) !== 0) return undefined;
    const text = readFileSync(file, 'utf8').trim();
    return PASSWORD.test(text) ? text : undefined;
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Replaces any entry of that name, also a directory, which an agent of this user may have made. */
function writeAtomically(path: string, text: string): void {
  rmSync(`${path}.new`, { recursive: true, force: true });
  writeFileSync(`${path}.new`, text, { mode: 0o600, flag: 'wx' });
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true) rmSync(path, { recursive: true });
  renameSync(`${path}.new`, path);
}
