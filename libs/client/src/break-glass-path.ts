import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

/** The longest path a unix socket can have is 107 bytes. */
const LONGEST_PATH = 100;

/** Where a worker answers without the server: in the data directory, or in the temporary one when that path is too long. */
export function breakGlassPath(dataDir: string, workerId: string): string {
  const name = `${workerId}.sock`;
  const path = join(dataDir, 'workers', name);
  return Buffer.byteLength(path) <= LONGEST_PATH ? path : join(tmpdir(), `belay-${userInfo().uid}`, name);
}
