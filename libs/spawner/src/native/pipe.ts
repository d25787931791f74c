import { orThrow, type Libc } from './libc';

const O_CLOEXEC = 0o2000000;

/**
 * A pipe without a name. Both ends block, and are closed on exec. The caller closes both.
 * @throws NativeError: EMFILE, ENFILE.
 */
export function openPipe(libc: Libc): { readonly reading: number; readonly writing: number } {
  const pair = Buffer.alloc(8);
  orThrow(libc, 'pipe2', libc.pipe2(pair, O_CLOEXEC));
  return { reading: pair.readInt32LE(0), writing: pair.readInt32LE(4) };
}
