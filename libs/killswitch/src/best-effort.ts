import { NotFoundError } from '#libs/contracts';
import { isCorrupt } from '#libs/valkey';

/** Items acted on at a time. */
export const AT_A_TIME = 32;

/** Acts on every item, and resolves when all are done; it never rejects. */
export type BestEffort = <T>(items: readonly T[], act: (item: T) => Promise<unknown>) => Promise<void>;

/**
 * Acts on a few items at a time. A failure is reported (a corrupt record by the quarantine) and does not stop the other items.
 */
export function bestEffort(onError: (error: unknown) => void = () => undefined): BestEffort {
  return async (items, act) => {
    for (let i = 0; i < items.length; i += AT_A_TIME)
      await Promise.all(
        items.slice(i, i + AT_A_TIME).map(async (item) =>
          act(item).catch((error: unknown) => {
            if (!(error instanceof NotFoundError) && !isCorrupt(error)) onError(error);
          }),
        ),
      );
  };
}

/** Takes the steps one after the other. One that fails, as over a record that cannot be read, keeps none of the others back. */
export async function inTurn(each: BestEffort, steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const step of steps) await each([step], async (take) => take());
}
