import { openLibc, setDumpable } from '../native';

/**
 * Closes this process to others of its user: they can no longer read its memory, environment and descriptors in /proc, nor
 * trace it. For programs of Belay's own: a host program decides that for itself. Children that `exec` are open again.
 * @returns why it could not be done; undefined when it was.
 */
export function shieldProcess(native: 'auto' | 'off'): string | undefined {
  if (native === 'off') return 'BELAY_NATIVE is off';
  const found = openLibc();
  if ('reason' in found) return found.reason;
  setDumpable(found.libc, false);
  return undefined;
}
