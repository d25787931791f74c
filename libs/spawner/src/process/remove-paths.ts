import { rmSync } from 'node:fs';

const ATTEMPTS = 10;
const PAUSE_MS = 25;

/**
 * Removes files and folders in this order; a missing one is no error. Retries for a short while, because an mkfifo(1) of a
 * worker that was just killed may still make pipes in a folder that is being emptied.
 * @throws the system's error of the last attempt.
 */
export async function removePaths(paths: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      for (const path of paths) rmSync(path, { recursive: true, force: true });
      return;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
