import { Failure } from './failure';
import type { WorkerClient } from './worker-client';

export interface StepOptions<Result> {
  /** Whether the step may run again if an earlier attempt ended while it executed the step. Default true. */
  readonly idempotent?: boolean;
  /**
   * For a step that is not idempotent: checks whether the step took effect, and returns its result or does it. Without it the
   * node fails with STEP_UNDECIDED, and a person decides.
   */
  readonly decide?: () => Promise<Result> | Result;
}

/** Runs a piece of work once for all attempts at a node: its result is stored before it is returned. */
export type Step = <Result>(
  name: string,
  work: () => Promise<Result> | Result,
  options?: StepOptions<Result>,
) => Promise<Result>;

export function makeStep(client: WorkerClient): Step {
  return async (name, work, { idempotent = true, decide } = {}) => {
    const known = await client.step({ name, act: 'begin', isIdempotent: idempotent });
    if (known.state === 'done') return known.result as Awaited<ReturnType<typeof work>>;
    if (known.state === 'undecided' && decide === undefined)
      throw new Failure(
        'STEP_UNDECIDED',
        `The attempt ${known.by} was executing the step ${name} as it ended, and the step is not idempotent: check whether it happened.`,
      );
    // A step that throws stays begun, since nobody knows its effects.
    const result = await (known.state === 'undecided' && decide !== undefined ? decide() : work());
    await client.step({ name, act: 'done', result });
    return result;
  };
}
