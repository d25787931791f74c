import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

let made = 0;

/**
 * An agent's input as a descriptor to be its stdin: a file without a name, or /dev/null for none. A file and not a
 * pipe, because it can be opened again by name (`jq . /dev/stdin`) also when all of it was written long before, and
 * the worker need not keep what an agent does not read.
 * @returns undefined when no file can be made there (disk full, folder gone): the caller falls back to a pipe.
 * @throws the system's error when descriptors ran out.
 */
export function openInput(folder: string, text: string): number | undefined {
  if (text === '') return openSync('/dev/null', 'r');
  const path = join(folder, `input-${(made += 1)}`);
  let writing: number | undefined;
  try {
    writing = openSync(path, 'wx', 0o600);
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length;) at += writeSync(writing, bytes, at);
    return openSync(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EMFILE' || code === 'ENFILE') throw error;
    return undefined;
  } finally {
    if (writing !== undefined) closeSync(writing);
    rmSync(path, { force: true });
  }
}
