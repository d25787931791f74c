import { setTimeout as delay } from 'node:timers/promises';
import { isPassing } from './script-runner';

/** A read is repeated while the server is away for a moment, as scripts are; any other fault is the caller's. */
export async function patiently<T>(read: () => Promise<T>, patienceMs = 10_000): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      if (!isPassing(error) || performance.now() > deadline) throw error;
      await delay(Math.min(20 * 2 ** attempt, 500));
    }
  }
}
