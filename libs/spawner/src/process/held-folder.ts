import { closeSync, constants, openSync, statSync } from 'node:fs';
import { isAbsent } from './read-kernel-file';

/** A folder that is kept open. */
export interface HeldFolder {
  /** Leads to that very folder; once it was removed, to nothing, even if there is another one at its place by then. */
  readonly path: string;
  /** Whether the folder at `path` is the held one. */
  is(path: string): boolean;
  close(): void;
}

/**
 * Keeps a folder open until `close`, or for as long as this process lives.
 * @returns undefined where it is gone already. Where this process has no descriptor left, the folder is not kept open: its path
 *   is `path` itself.
 */
export function holdFolder(path: string): HeldFolder | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
    const held = `/proc/self/fd/${fd}`;
    return { path: held, is: (there) => isSame(held, there), close: () => closeSync(fd) };
  } catch (error) {
    return isAbsent(error) ? undefined : { path, is: (there) => there === path, close: () => undefined };
  }
}

function isSame(held: string, path: string): boolean {
  try {
    const [ours, there] = [statSync(held), statSync(path)];
    return ours.ino === there.ino && ours.dev === there.dev;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}
