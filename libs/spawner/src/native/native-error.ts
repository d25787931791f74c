import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

const CODES = new Map(Object.entries(constants.errno).map(([code, errno]) => [errno, code]));

/** A failed call of libc. `code` is the name of its errno, as in Node's own system errors. */
export class NativeError extends Error {
  readonly code: string;

  constructor(
    readonly syscall: string,
    /** Positive, as in errno.h. */
    readonly errno: number,
  ) {
    const [name, text = 'refused by the system'] = getSystemErrorMap().get(-errno) ?? [];
    const code = name ?? CODES.get(errno) ?? `errno ${errno}`;
    super(`${syscall} failed: ${text} (${code})`);
    this.name = 'NativeError';
    this.code = code;
  }
}

/** Whether `error` is a failed call with one of these errno names. */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof NativeError && codes.includes(error.code);
}
