import { Logger } from '@nestjs/common';

/** How many starts are under way, and the logger to restore after the last of them. */
let quiet = 0;
let ofHost: (typeof Logger)['staticInstanceRef'];

/**
 * Nest has one logger for the whole process, and an application without one removes it for all. This restores the logger of a
 * host that uses Nest itself.
 */
export async function quietly<T>(act: () => Promise<T>): Promise<T> {
  if (quiet++ === 0) ofHost = Logger['staticInstanceRef'];
  try {
    return await act();
  } finally {
    if (--quiet === 0) Logger.overrideLogger(ofHost ?? false);
  }
}
