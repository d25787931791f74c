import { z } from 'zod';
import type { SignalRequest } from '../signals';
import { check, invalidRequest } from './check-request';
import { NAME_PATTERN, says } from './fields';
import { showValue } from './show-value';

const signalFields = { payload: z.unknown().optional() };
const signalSchema = z.strictObject(signalFields, says('an object with payload, or nothing'));

/** Checks the body of a signal. @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateSignal(raw: unknown): SignalRequest {
  return check(signalSchema, raw ?? {}, Object.keys(signalFields)) as SignalRequest;
}

/** A signal's name from a path. @throws BelayError `INVALID_REQUEST` */
export function requireSignal(name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  const message = `must be the name of a signal, 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is ${showValue(name)}.`;
  throw invalidRequest([{ path: 'name', code: 'PATTERN', message }]);
}
