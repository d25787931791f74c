import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';

/**
 * Files in a folder that agents of the same user can write. An agent may put anything there: a FIFO, whose opening waits for a
 * partner for ever, a link to another file, a file without an end. So no open here may wait or follow a link, and each opened
 * file is checked before use. Node opens everything with O_CLOEXEC.
 */
const SAFELY = constants.O_NONBLOCK | constants.O_NOFOLLOW;
/** Records and proofs are a few kilobytes; a proof names each killed process. */
const MAX_READ_BYTES = 4 * 1024 * 1024;
/** Paths that were reported, each once. */
const told = new Set<string>();
const MAX_TOLD = 1_000;

/**
 * The text of a regular file that this user or root owns.
 * @throws the system's error, or Error for anything else; such a path is reported once.
 */
export function readOwnFile(path: string): string {
  const fd = open(path, constants.O_RDONLY);
  try {
    const { size } = fstatSync(fd);
    if (size > MAX_READ_BYTES) throw strange(path, `has ${size} bytes`);
    const bytes = Buffer.alloc(size);
    let length = 0;
    for (let read = -1; read !== 0 && length < size; length += read)
      read = readSync(fd, bytes, length, size - length, length);
    return bytes.toString('utf8', 0, length);
  } finally {
    closeSync(fd);
  }
}

/** A descriptor that appends to a file of this user, which is made if it does not exist. @throws as `readOwnFile` does */
export function openOwnToAppend(path: string): number {
  return open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT);
}

/** Writes the file whole or not at all. @throws the system's error */
export function replaceOwnFile(path: string, text: string): void {
  const next = `${path}.new`;
  rmSync(next, { recursive: true, force: true });
  // A new file, so this user owns it and it is no link.
  writeFileSync(next, text, { mode: 0o600, flag: 'wx' });
  try {
    renameSync(next, path);
  } catch (error) {
    // A folder is in its place.
    if ((error as NodeJS.ErrnoException).code !== 'EISDIR') throw error;
    rmSync(path, { recursive: true, force: true });
    renameSync(next, path);
  }
}

function open(path: string, flags: number): number {
  let fd: number;
  try {
    fd = openSync(path, flags | SAFELY, 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ELOOP: a link. ENXIO: a FIFO without a reader, or a socket.
    if (code === 'ELOOP' || code === 'ENXIO') throw strange(path, `is not a regular file (${code})`);
    throw error;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw strange(path, 'is not a regular file');
    if (stat.nlink > 1) throw strange(path, 'has another name too');
    if (stat.uid !== 0 && stat.uid !== process.geteuid?.()) throw strange(path, `is of user ${stat.uid}`);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function strange(path: string, why: string): Error {
  const message = `${path} ${why}: it is ignored. Somebody who can write this folder put it there.`;
  if (!told.has(path) && told.size < MAX_TOLD) {
    told.add(path);
    process.emitWarning(message, 'BelayWarning');
  }
  return new Error(message);
}
