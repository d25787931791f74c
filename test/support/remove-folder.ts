import { rmSync } from 'node:fs';
import { eventually } from './wait';

/**
 * Removes a folder in which the guardian of a killed worker may still write its proof: the guardian ends by itself. The retries
 * of `rmSync` do not look again at what a folder contains, so they fail as long as they are made.
 */
export async function removeFolder(path: string): Promise<void> {
  await eventually(() => hasRemoved(path), `${path} removed`);
}

function hasRemoved(path: string): boolean {
  try {
    rmSync(path, { recursive: true, force: true });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTEMPTY') return false;
    throw error;
  }
}
