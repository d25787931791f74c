import { Logger } from '@nestjs/common';

/** How many starts are under way, and whose logger comes back after the last of them. */
let quiet = 0;
let ofHost: (typeof Logger)['staticInstanceRef'];

/**
 * Nest has one logger for the whole process, and an application that is made without one takes it away from all. A host
 * that uses Nest itself gets its own back.
 */
export async function quietly<T>(act: () => Promise<T>): Promise<T> {
  if (quiet++ === 0) ofHost = Logger['staticInstanceRef'];
  try {
    return await act();
  } finally {
    if (--quiet === 0) Logger.overrideLogger(ofHost ?? false);
  }
}
