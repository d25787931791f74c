/**
 * The time that a busy machine may add to a bound of the product: a test shows that the bound exists, and benchmarks how tight
 * it is. Milliseconds.
 */
export const NOISE_MS = 20_000;

/** Looks soon at first, then ever more rarely, to spare the machine that does the awaited work. Milliseconds. */
const FIRST_MS = 20;
const LONGEST_MS = 200;
/** Between these bounds the pause before the next look is a twelfth of the time waited so far. */
const PART = 12;

/**
 * Looks until `look` returns something other than `undefined` or `false`.
 *
 * @param what names the condition in the error after `timeoutMs`: a bound for a broken product, never a measurement.
 * @param state describes the present state for the error.
 */
export async function eventually<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  what: string,
  timeoutMs = 60_000,
  state?: () => Promise<string>,
): Promise<T> {
  const begun = performance.now();
  for (;;) {
    const answer = await look();
    if (answer !== undefined && answer !== false) return answer;
    const waited = performance.now() - begun;
    if (waited > timeoutMs) {
      const instead = await state?.().catch((error: unknown) => `its state cannot be read: ${String(error)}`);
      throw new Error(
        [`${what} was not seen within ${timeoutMs} ms`, ...(instead === undefined ? [] : [instead])].join(
          '\n',
        ),
      );
    }
    const rest = Math.min(LONGEST_MS, Math.max(FIRST_MS, waited / PART));
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
}

/** As `eventually`, for a condition. A look that throws counts as false. */
export async function until(
  look: () => Promise<boolean> | boolean,
  what: string,
  timeoutMs = 60_000,
): Promise<void> {
  await eventually(
    async () => {
      try {
        return await look();
      } catch {
        return false;
      }
    },
    what,
    timeoutMs,
  );
}
