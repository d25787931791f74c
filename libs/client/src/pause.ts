/** Resolves after `ms`, or at once when the signal aborts. The timer never outlives it. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return;
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

/** The n-th wait (from 0) between two tries: 250 ms doubling to 5 s, a quarter of it drawn at random. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  const full = Math.min(250 * 2 ** Math.min(attempt, 10), 5_000);
  return Math.round(full * (0.75 + 0.25 * random()));
}
