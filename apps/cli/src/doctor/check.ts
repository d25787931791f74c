/** One line of `doctor`. */
export interface Check {
  readonly name: string;
  readonly result: 'ok' | 'warn' | 'fail';
  readonly message: string;
  /** The advice, if any. */
  readonly advice?: string;
}

export function ok(name: string, message: string): Check {
  return { name, result: 'ok', message };
}

export function warn(name: string, message: string, advice?: string): Check {
  return { name, result: 'warn', message, ...(advice === undefined ? {} : { advice }) };
}

export function fail(name: string, message: string, advice?: string): Check {
  return { name, result: 'fail', message, ...(advice === undefined ? {} : { advice }) };
}
