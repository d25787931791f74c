import { constants, openSync, statSync } from 'node:fs';
import { isAbsent } from './read-kernel-file';

/**
 * Keeps a folder open for as long as this process lives. The path that it returns leads to that very folder: once it was
 * removed, to nothing, even if there is another one at `path` by then.
 * @returns undefined where it is gone already; `path` itself where this process has no descriptor left.
 */
export function holdFolder(path: string): string | undefined {
  try {
    return `/proc/self/fd/${openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)}`;
  } catch (error) {
    return isAbsent(error) ? undefined : path;
  }
}

/** Whether the folder at `path` is the held one. */
export function isHeld(held: string, path: string): boolean {
  try {
    const [ours, there] = [statSync(held), statSync(path)];
    return ours.ino === there.ino && ours.dev === there.dev;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}
