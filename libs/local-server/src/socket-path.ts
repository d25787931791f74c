import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Bytes of a socket's path that every platform accepts: sun_path has room for 104 on macOS, 108 on Linux, with its NUL. */
const LONGEST_SOCKET_PATH = 100;

/** Whether a socket can have this path. */
export function socketFits(path: string): boolean {
  return Buffer.byteLength(path) <= LONGEST_SOCKET_PATH;
}

/** A socket in `dir`; where that path is too long, in a short 0700 directory that is made for it. */
export function placeSocket(dir: string): { readonly socketPath: string; readonly madeDirectory?: string } {
  const socketPath = join(dir, 'valkey.sock');
  if (socketFits(socketPath)) return { socketPath };
  const base = socketFits(join(tmpdir(), 'belay-XXXXXX', 'valkey.sock')) ? tmpdir() : '/tmp';
  const madeDirectory = mkdtempSync(join(base, 'belay-'));
  return { socketPath: join(madeDirectory, 'valkey.sock'), madeDirectory };
}
