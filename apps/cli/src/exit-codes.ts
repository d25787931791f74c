import { isBelayError, type ErrorCode, type ExecutionState, type Receipt } from '#libs/contracts';

/** The command's exit codes; docs/cli.md lists the same. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  stopped: 3,
  notFound: 4,
  unreachable: 5,
  refused: 6,
  unconfirmed: 7,
  unmatched: 8,
  denied: 9,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The command was used wrongly: no request was made. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The exit code of a command that an error ends. */
export function exitCodeOfError(error: unknown): ExitCode {
  if (error instanceof UsageError) return EXIT.usage;
  if (!isBelayError(error)) return EXIT.failed;
  return BY_CODE[error.code] ?? EXIT.failed;
}

const BY_CODE: Readonly<Partial<Record<ErrorCode, ExitCode>>> = {
  NOT_FOUND: EXIT.notFound,
  SERVER_UNREACHABLE: EXIT.unreachable,
  SERVER_REFUSED: EXIT.unreachable,
  DRAINING: EXIT.unreachable,
  // Like them it passes: a script may try again.
  RATE_LIMITED: EXIT.unreachable,
  UNAUTHORIZED: EXIT.refused,
  FORBIDDEN: EXIT.refused,
  // The call may have run: a script must not take it for a failure.
  OUTCOME_UNKNOWN: EXIT.unconfirmed,
};

/** The exit code of a command that followed an execution to its end. */
export function exitCodeOfState(state: ExecutionState): ExitCode {
  if (state === 'completed') return EXIT.ok;
  return state === 'stopped' ? EXIT.stopped : EXIT.failed;
}

/** The exit code of a command that asked for a stop or a kill. */
export function exitCodeOfReceipt(receipt: Pick<Receipt, 'complete' | 'warning'> | undefined): ExitCode {
  if (receipt !== undefined && !receipt.complete) return EXIT.unconfirmed;
  return exitCodeOfWarning(receipt ?? {});
}

/** The exit code of an act that was done as asked, and may not be what the caller intended. */
export function exitCodeOfWarning({ warning }: Pick<Receipt, 'warning'>): ExitCode {
  return warning === undefined ? EXIT.ok : EXIT.unmatched;
}
