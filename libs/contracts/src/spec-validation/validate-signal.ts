import { z } from 'zod';
import { invalidRequest, shape } from './check-request';
import { NAME_PATTERN } from './fields';
import { showValue } from './show-value';

/** Checks the body of a signal. @throws BelayError `INVALID_REQUEST` with every problem. */
export const validateSignal = shape(
  {
    /** Any JSON; null where it is absent. */
    payload: z.unknown().optional(),
  },
  'an object with payload, or nothing',
  { orNothing: true },
);
/** The body of a signal. */
export type SignalRequest = ReturnType<typeof validateSignal>;

/** A signal's name from a path. @throws BelayError `INVALID_REQUEST` */
export function requireSignal(name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  const message = `must be the name of a signal, 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is ${showValue(name)}.`;
  throw invalidRequest([{ path: 'name', code: 'PATTERN', message }]);
}
