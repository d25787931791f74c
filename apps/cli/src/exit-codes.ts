import { isBelayError, type ExecutionState, type Receipt } from '#libs/contracts';

/** What the command's exit code means; docs/cli.md lists the same. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  stopped: 3,
  notFound: 4,
  unreachable: 5,
  refused: 6,
  unconfirmed: 7,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The command was used wrongly: nothing was asked of the server. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The exit code an error ends the command with. */
export function exitCodeOfError(error: unknown): ExitCode {
  if (error instanceof UsageError) return EXIT.usage;
  if (!isBelayError(error)) return EXIT.failed;
  switch (error.code) {
    case 'NOT_FOUND':
      return EXIT.notFound;
    case 'SERVER_UNREACHABLE':
    case 'SERVER_REFUSED':
    case 'DRAINING':
      return EXIT.unreachable;
    case 'UNAUTHORIZED':
      return EXIT.refused;
    case 'OUTCOME_UNKNOWN':
      return EXIT.unconfirmed;
    default:
      return EXIT.failed;
  }
}

/** The exit code of a command that followed an execution to its end. */
export function exitCodeOfState(state: ExecutionState): ExitCode {
  switch (state) {
    case 'completed':
      return EXIT.ok;
    case 'stopped':
      return EXIT.stopped;
    default:
      return EXIT.failed;
  }
}

/** The exit code of a command that asked for a stop or a kill. */
export function exitCodeOfReceipt(receipt: Pick<Receipt, 'complete'> | undefined): ExitCode {
  return receipt === undefined || receipt.complete ? EXIT.ok : EXIT.unconfirmed;
}
