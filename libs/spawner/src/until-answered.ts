import { isBelayError } from '#libs/contracts';
import type { RunnerOptions } from './agent-runner.types';

/**
 * Makes a call of the server again while its outcome is unknown. The call may have run, so it must be one that can be
 * repeated; it bounds each try itself. Any other error is the caller's.
 * @returns undefined when there was no answer and `isOff` held, or this worker gave up waiting for the server.
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
