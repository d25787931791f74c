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

/** The one user of a local server: who knows no password is refused with NOAUTH. */
export interface ServerLogin {
  readonly username: string;
  readonly password: string;
  /** Given to the server in place of the password: it holds a hash. */
  readonly aclFile: string;
}

/** The name of the users' file in the data directory, for a server that has that mounted elsewhere. */
export const aclFileName = ACL_FILE;

/**
 * The login of the server on this data directory: the one kept, or a new one, kept from now on, so that callers that
 * outlive the server reach the next one. The files are their owner's alone.
 *
 * @param known of a server that is started once more: its clients have this password, whatever became of the files.
 */
export function keepLogin(dir: string, known?: ServerLogin): ServerLogin {
  const password =
    known?.password ?? readKept(join(dir, PASSWORD_FILE)) ?? randomBytes(32).toString('base64url');
  writeAtomically(join(dir, PASSWORD_FILE), `${password}\n`);
  const hash = createHash('sha256').update(password).digest('hex');
  const aclFile = join(dir, ACL_FILE);
  // Nobody can be `default`; but the server replays the transactions of its append-only file with what that user may do,
  // and drops each that it may not.
  const all = '~* &* +@all';
  writeAtomically(aclFile, `user default off resetpass ${all}\nuser ${USERNAME} on #${hash} ${all}\n`);
  return { username: USERNAME, password, aclFile };
}

/** Keeps the whole address where BELAY_VALKEY_URL_FILE can name it. Answers the file. */
export function keepUrl(dir: string, url: string): string {
  const path = join(dir, URL_FILE);
  writeAtomically(path, `${url}\n`);
  return path;
}

/** A password of ours in a file that this user alone could read: any other is replaced. Waits for no FIFO. */
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

/** In place of whatever is there: a directory too, which an agent of this user may have made. */
function writeAtomically(path: string, text: string): void {
  rmSync(`${path}.new`, { recursive: true, force: true });
  writeFileSync(`${path}.new`, text, { mode: 0o600, flag: 'wx' });
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true) rmSync(path, { recursive: true });
  renameSync(`${path}.new`, path);
}
