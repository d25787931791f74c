import { rmSync } from 'node:fs';

/**
 * Removes files and folders; what is gone already is fine. Tried again for a short while, because an mkfifo(1) of a
 * worker that was just killed may still be making pipes in a folder that is being emptied.
 */
export function removePaths(paths: readonly string[]): void {
  for (const path of paths) rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
}
