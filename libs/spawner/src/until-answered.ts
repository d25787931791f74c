import { isBelayError } from '#libs/contracts';
import type { RunnerOptions } from './agent-runner.types';

/**
 * Repeats a call of the server while its outcome is unknown. The call may have run, so it must be repeatable; it bounds each
 * try itself. Any other error goes to the caller.
 * @returns undefined when there was no answer and `isOff` was true, or this worker stopped waiting for the server.
 */
export async function untilAnswered<T>(
  { onError, closing }: Pick<RunnerOptions, 'onError' | 'closing'>,
  agentId: string,
  ask: () => Promise<T>,
  isOff: () => boolean = () => false,
): Promise<T | undefined> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!isBelayError(error) || error.code !== 'OUTCOME_UNKNOWN') throw error;
      onError?.(error, agentId);
      if (isOff() || closing?.aborted === true) return undefined;
    }
  }
}
