import { BelayError, isBelayError } from '#libs/contracts';

/**
 * The error of a stop that nobody took, or may not have taken, with what works then: a person who types a kill must not have
 * to look that up. `local` is the command for each machine; other errors are as they were.
 */
export function withWayOut(error: unknown, local: string): unknown {
  if (!isBelayError(error)) return error;
  const { code, message, details } = error;
  const rest = `Without the orchestrator, on each machine with workers: ${local}`;
  if (code === 'SERVER_UNREACHABLE' || code === 'SERVER_REFUSED')
    return new BelayError(code, `${message.replace(/\.$/, '')}. ${rest}`, { cause: error, details });
  if (code !== 'OUTCOME_UNKNOWN') return error;
  // With a status the orchestrator has answered: what it lost is the state server.
  const lost = details['status'] === undefined ? 'The orchestrator' : 'The state server';
  const what = `${lost} gave no answer: the order may or may not be stored. Look with: belay audit.`;
  return new BelayError(code, `${what} ${rest}`, { cause: error, details });
}
