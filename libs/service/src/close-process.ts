import type * as Koffi from 'koffi';

const PR_SET_DUMPABLE = 4;

let closed: { readonly reason?: string } | undefined;

/**
 * Closes this process to others of its user: they can no longer read its memory, environment and descriptors in /proc, nor
 * trace it, and it leaves no core dump. Children that `exec` are open again. For Belay's own programs: a host program decides
 * that for itself. The first call loads koffi, which takes some 5 ms of processor time; further calls do nothing.
 * @returns why it failed; undefined when it succeeded.
 */
export function closeProcess(native: 'auto' | 'off'): string | undefined {
  if (native === 'off') return 'BELAY_NATIVE is off';
  closed ??= close();
  return closed.reason;
}

function close(): { readonly reason?: string } {
  if (process.platform !== 'linux') return { reason: `it cannot be done on ${process.platform}` };
  try {
    // Not an import: koffi may be absent, and a process without secrets must not load it.
    const koffi = require('koffi') as typeof Koffi;
    const prctl = koffi
      .load(null)
      .func('prctl', 'int', ['int', 'long', 'long', 'long', 'long']) as unknown as (
      ...all: number[]
    ) => number;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) === 0
      ? {}
      : { reason: `prctl(2) failed with errno ${koffi.errno()}` };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { reason: `koffi cannot be loaded (${message.split('\n')[0] ?? ''})` };
  }
}
