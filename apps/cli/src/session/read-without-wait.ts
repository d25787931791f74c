import { closeSync, constants, openSync, readFileSync } from 'node:fs';

/**
 * The text of a file in a data directory. An agent of the same user can put a FIFO in its place, whose opening would wait for a
 * partner for ever. This read does not wait, and returns an empty text for a FIFO.
 * @throws the system's error
 */
export function readWithoutWait(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
