import { lstatSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

/** The longest path a unix socket can have is 107 bytes. */
const LONGEST_PATH = 100;

/**
 * The socket on which a worker answers without the server: in the data directory, or in the fall-back when that path is too
 * long.
 */
export function breakGlassPath(dataDir: string, workerId: string): string {
  const name = `${workerId}.sock`;
  const path = join(dataDir, 'workers', name);
  return Buffer.byteLength(path) <= LONGEST_PATH ? path : join(breakGlassFallback(), name);
}

/** In the temporary directory, where any user of the machine may make a directory of this name first. */
export const breakGlassFallback = (): string => join(tmpdir(), `belay-${userInfo().uid}`);

/**
 * Why sockets in this directory cannot be trusted, as a phrase; undefined when only this user can put one there. Another user's
 * socket could take the kill and claim that all agents are dead.
 *
 * @throws the system's error when there is no such directory.
 */
export function folderProblem(folder: string): string | undefined {
  const { uid, mode } = lstatSync(folder);
  if ((mode & 0o170000) !== 0o040000) return 'it is not a directory';
  if (uid !== userInfo().uid) return `it belongs to the user with the id ${uid}`;
  if ((mode & 0o022) !== 0) return `other users may write to it (mode ${(mode & 0o777).toString(8)})`;
  return undefined;
}
