import { openLibc, setDumpable } from '../native';

/**
 * Closes this process to others of its user: they can no longer read its memory, environment and descriptors in /proc, nor
 * trace it. For Belay's own programs: a host program decides that for itself. Children that `exec` are open again.
 * @returns why it failed; undefined when it succeeded.
 */
export function shieldProcess(native: 'auto' | 'off'): string | undefined {
  if (native === 'off') return 'BELAY_NATIVE is off';
  const found = openLibc();
  if ('reason' in found) return found.reason;
  setDumpable(found.libc, false);
  return undefined;
}
