import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { isEarlierBoot, isSeenFromHere, type HostPlace } from './host-place';
import { findAlive } from './proc-stat';
import type { ProcessIdentity } from './process-host.types';

/** The worker behind a token. */
export interface UidOwner {
  readonly owner: ProcessIdentity;
  readonly place: HostPlace;
  /** The folder with the homes of its agents. */
  readonly homes: string;
}

/** Where a worker's marks are, for its guardian and for the worker that reaps it. */
export interface UidMarks {
  readonly folder: string;
  readonly token: string;
}

/** One folder for every worker of the machine, whatever its data directory: two may have been given the same user ids. */
export const UID_FOLDER = '/run/belay/uids';

const OWNER_PREFIX = 'owner.';
const PERMIT_PREFIX = 'start.';
const TOKEN = /^[0-9a-f]{32}$/;
/** Agents must be able to see that a mark exists, and cannot list the marks. */
export const FOLDER_MODE = 0o711;
const OTHERS_WRITE = 0o022;
const OTHERS_ENTER = 0o001;

/** The files that say which user ids are taken, and by whom. Their contents never change: a mark exists or it does not. */
const markPath = ({ folder, token }: UidMarks, uid: number): string => join(folder, `${uid}.${token}`);
/** Exists while the worker may start agents. Each start checks for it last, as the agent's user. */
export const permitPath = ({ folder, token }: UidMarks): string => join(folder, `${PERMIT_PREFIX}${token}`);
const ownerPath = ({ folder, token }: UidMarks): string => join(folder, `${OWNER_PREFIX}${token}`);

/**
 * Makes a folder, if missing, into which only this user and root can put files, and which agents can enter.
 * @throws Error when the existing one is different.
 */
export function requireOwnFolder(folder: string): void {
  const isNew = mkdirSync(folder, { recursive: true, mode: FOLDER_MODE }) !== undefined;
  // Whatever the umask is.
  if (isNew) chmodSync(folder, FOLDER_MODE);
  const { uid, mode } = lstatSync(folder);
  const isDirectory = (mode & 0o170000) === 0o040000;
  if (
    isDirectory &&
    [0, process.geteuid?.()].includes(uid) &&
    (mode & (OTHERS_WRITE | OTHERS_ENTER)) === OTHERS_ENTER
  )
    return;
  throw new Error(
    `${folder} is not a directory that only root can write and all can enter (user ${uid}, mode ${(mode & 0o7777).toString(8)})`,
  );
}

/** Called before the first mark: without its owner a mark counts for nothing. @throws the system's error */
export function writeOwner(marks: UidMarks, owner: UidOwner): void {
  requireOwnFolder(dirname(marks.folder));
  requireOwnFolder(marks.folder);
  const path = ownerPath(marks);
  writeFileSync(`${path}.new`, JSON.stringify(owner), { mode: 0o600, flag: 'wx' });
  renameSync(`${path}.new`, path);
  closeSync(openSync(permitPath(marks), 'wx', 0o600));
}

/** From here on no start of that worker that was under way becomes an agent without being seen as its user before. */
export function revoke(marks: UidMarks): void {
  rmSync(permitPath(marks), { force: true });
}

export function readOwner(marks: UidMarks): UidOwner | undefined {
  try {
    const owner = JSON.parse(readFileSync(ownerPath(marks), 'utf8')) as UidOwner;
    return typeof owner.owner.pid === 'number' && typeof owner.homes === 'string' ? owner : undefined;
  } catch {
    return undefined;
  }
}

/** `gone`: dead here, or of an earlier boot. A worker that cannot be seen from here may be running. */
export function isOwnerGone({ owner, place }: UidOwner): boolean {
  if (isEarlierBoot(place)) return true;
  return isSeenFromHere(place, { cgroups: false }) && findAlive(owner) === undefined;
}

export function writeMark(marks: UidMarks, uid: number): void {
  closeSync(openSync(markPath(marks, uid), 'wx', 0o600));
}

export function removeMark(marks: UidMarks, uid: number): void {
  rmSync(markPath(marks, uid), { force: true });
}

/** Called after the last of its marks is removed. */
export function removeOwner(marks: UidMarks): void {
  rmSync(ownerPath(marks), { force: true });
}

/** Every existing mark, those of dead workers too. @throws the system's error: unknown is not free. */
export function listMarks(folder: string): { readonly uid: number; readonly token: string }[] {
  return readdirSync(folder).flatMap((name) => {
    const [uid = '', token = ''] = name.split('.');
    return /^\d+$/.test(uid) && TOKEN.test(token) ? [{ uid: Number(uid), token }] : [];
  });
}

/** Every worker that has marks, or had. */
export function listOwners(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const token = name.startsWith(OWNER_PREFIX) ? name.slice(OWNER_PREFIX.length) : '';
    return TOKEN.test(token) ? [token] : [];
  });
}
