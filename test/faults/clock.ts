import { readFileSync } from 'node:fs';

/**
 * The one clock of a seed's history: seconds since boot from /proc/uptime, in steps of 10 ms. Agents write the same clock into
 * their records.
 */
export function uptime(): number {
  return Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]);
}

/** The offset from the server's milliseconds to that clock; both are of this machine. */
export function wallOffset(): number {
  return Date.now() / 1_000 - uptime();
}

/** Waits, or less when `signal` fires; never rejects. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true || ms <= 0) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** `promise`, or undefined once `ms` have passed; its rejection goes to the caller. */
export async function atMost<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
