import { inspect } from 'node:util';
import { MAX_ERROR_MESSAGE } from '#libs/contracts';

/** A failure with one of Belay's codes. */
export class Failure extends Error {
  override readonly name = 'Failure';

  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** A handler throws it, or BullMQ's error of the same name, when no other attempt can succeed. */
export class UnrecoverableError extends Error {
  override readonly name = 'UnrecoverableError';
}

/** A failure as it is stored: a code, and one sentence without a stack, for any thrown value. */
export function describeFailure(
  thrown: unknown,
  code: string,
): { readonly code: string; readonly message: string } {
  if (thrown instanceof Failure) return { code: thrown.code, message: textOf(thrown.message) };
  if (!(thrown instanceof Error)) return { code, message: textOf(`threw ${shown(thrown)}`) };
  const { name, message } = thrown;
  return { code: name === 'UnrecoverableError' ? 'UNRECOVERABLE' : code, message: textOf(message || name) };
}

/** Some values throw when they are converted to text. */
function shown(value: unknown): string {
  try {
    return inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY });
  } catch {
    return `a ${typeof value}`;
  }
}

/** Never empty, and cut between characters. */
function textOf(text: string): string {
  const cut = Buffer.from(text.slice(0, MAX_ERROR_MESSAGE)).toString('utf8');
  return cut === '' ? 'it failed without a message' : cut;
}
