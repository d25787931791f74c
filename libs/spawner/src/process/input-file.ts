import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

let made = 0;

const newPath = (folder: string): string => join(folder, `input-${(made += 1)}`);

/**
 * A descriptor for an agent's stdin: a file without a name, or /dev/null for an empty input. A file and not a pipe, because an
 * agent can open it again by name (`jq . /dev/stdin`), and because the worker need not keep input that an agent does not read.
 * @returns undefined when no file can be made there (disk full, folder gone): the caller uses a pipe.
 * @throws the system's error when no descriptor is left.
 */
export function openInput(folder: string, text: string): number | undefined {
  if (text === '') return openSync('/dev/null', 'r');
  const path = newPath(folder);
  let writing: number | undefined;
  try {
    writing = openSync(path, 'wx', 0o600);
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length;) at += writeSync(writing, bytes, at);
    return reopen(writing);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EMFILE' || code === 'ENFILE') throw error;
    return undefined;
  } finally {
    if (writing !== undefined) closeSync(writing);
    rmSync(path, { force: true });
  }
}

/** The same file, even if an agent has meanwhile put another one in the place of its name. */
const reopen = (fd: number): number => openSync(`/proc/self/fd/${fd}`, 'r');

/** An input too large for memory: written piece by piece to a file without a name, then given to one agent as its stdin. */
export class InputFile {
  private reading: number | undefined;

  private constructor(
    private readonly writing: FileHandle,
    reading: number,
  ) {
    this.reading = reading;
  }

  /** @throws the system's error: no folder, no space, no descriptors. */
  static async create(folder: string): Promise<InputFile> {
    const path = newPath(folder);
    const writing = await open(path, 'wx', 0o600);
    try {
      return new InputFile(writing, reopen(writing.fd));
    } catch (error) {
      await writing.close();
      throw error;
    } finally {
      rmSync(path, { force: true });
    }
  }

  /** @throws the system's error, such as ENOSPC. */
  async write(text: string): Promise<void> {
    await this.writing.writeFile(text);
  }

  /** A descriptor that reads the input from its beginning. The caller closes it. */
  take(): number {
    const { reading } = this;
    if (reading === undefined) throw new Error('this input was given away already');
    this.reading = undefined;
    return reading;
  }

  /** Closes the descriptors that were not given away. Repeatable. */
  async close(): Promise<void> {
    if (this.reading !== undefined) closeSync(this.reading);
    this.reading = undefined;
    await this.writing.close().catch(() => undefined);
  }
}
