import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
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
 */
export function keepLogin(dir: string): ServerLogin {
  const password = readKept(join(dir, PASSWORD_FILE)) ?? randomBytes(32).toString('base64url');
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

/** Of this user, and a password of ours: any other is replaced. Waits for no FIFO. */
function readKept(path: string): string | undefined {
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    const found = fstatSync(file);
    if (!found.isFile() || found.uid !== process.getuid?.()) return undefined;
    const text = readFileSync(file, 'utf8').trim();
    return PASSWORD.test(text) ? text : undefined;
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function writeAtomically(path: string, text: string): void {
  rmSync(`${path}.new`, { force: true });
  writeFileSync(`${path}.new`, text, { mode: 0o600, flag: 'wx' });
  renameSync(`${path}.new`, path);
}
