import { closeSync, openSync, readSync } from 'node:fs';

// One buffer for every read: all reads are synchronous, so no two use it at once.
const buffer = Buffer.allocUnsafe(64 * 1024);

/**
 * The text of a kernel file (/proc, cgroupfs), which the kernel answers from memory: three system calls, where readFileSync
 * makes five. Undefined when the process or cgroup is gone.
 * @throws the system's error for anything else (out of descriptors, no permission): unknown must not count as gone.
 */
export function readKernelFile(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  try {
    const length = readSync(fd, buffer, 0, buffer.length, null);
    // A short answer is complete, except in files longer than a page, which come in pieces.
    if (length < 4_000) return buffer.toString('latin1', 0, length);
    return buffer.toString('latin1', 0, length) + readRest(fd);
  } catch (error) {
    if (isAbsent(error)) return undefined; // the process ended between open and read
    throw error;
  } finally {
    closeSync(fd);
  }
}

function readRest(fd: number): string {
  let rest = '';
  for (;;) {
    const length = readSync(fd, buffer, 0, buffer.length, null);
    if (length === 0) return rest;
    rest += buffer.toString('latin1', 0, length);
  }
}

/** Gone: no such file, process or device any more. */
export function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH' || code === 'ENODEV';
}

/**
 * Another user's process, one that changed user (setuid), or one whose memory nobody can read: the answer will never be
 * available. Other errors (out of descriptors) say nothing about that process.
 */
export function isForbidden(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EACCES' || code === 'EPERM' || code === 'EIO' || code === 'EFAULT';
}
