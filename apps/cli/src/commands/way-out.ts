import { BelayError, isBelayError } from '#libs/contracts';

/**
 * Adds the commands that still work to the error of a stop that nobody accepted, or perhaps nobody: a person in that situation
 * must not have to look them up. `local` is the command for each machine. Other errors stay unchanged.
 */
export function withWayOut(error: unknown, local: string): unknown {
  if (!isBelayError(error)) return error;
  const { code, message, details } = error;
  const rest = `Without the orchestrator, on each machine with workers: ${local}`;
  if (code === 'SERVER_UNREACHABLE' || code === 'SERVER_REFUSED')
    return new BelayError(code, `${message.replace(/\.$/, '')}. ${rest}`, { cause: error, details });
  if (code !== 'OUTCOME_UNKNOWN') return error;
  // With a status the orchestrator has answered, so it is the state server that is lost.
  const lost = details['status'] === undefined ? 'The orchestrator' : 'The state server';
  const what = `${lost} gave no answer: the order may or may not be stored. Look with: belay audit.`;
  return new BelayError(code, `${what} ${rest}`, { cause: error, details });
}
