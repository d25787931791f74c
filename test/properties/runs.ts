import fc from 'fast-check';

const setting = (name: string): string | undefined => process.env[name] || undefined;

/** A whole number from the environment. @throws for any other text: a typing error must not run something else. */
function numberOf(name: string): number | undefined {
  const text = setting(name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value)) throw new Error(`${name}=${text} is not a whole number.`);
  return value;
}

/**
 * Runs a property. `BELAY_TEST_RUNS` multiplies the number of runs, `BELAY_TEST_SEED` and `BELAY_TEST_PATH` repeat a run that
 * failed. A failing run is shrunk, and its message says how to repeat it.
 */
export async function expectProperty<Ts>(
  property: fc.IRawProperty<Ts>,
  numRuns: number,
  options: { readonly size?: fc.Size } = {},
): Promise<void> {
  const seed = numberOf('BELAY_TEST_SEED');
  const path = setting('BELAY_TEST_PATH');
  const details = await fc.check(property, {
    numRuns: numRuns * (numberOf('BELAY_TEST_RUNS') ?? 1),
    ...(seed === undefined ? {} : { seed }),
    ...(path === undefined ? {} : { path, endOnFailure: true }),
    ...options,
  });
  if (!details.failed) return;
  const { testPath, currentTestName } = expect.getState();
  const file = testPath?.split('/').slice(-1)[0] ?? '';
  const replay =
    `BELAY_TEST_SEED=${details.seed} BELAY_TEST_PATH=${details.counterexamplePath ?? ''} ` +
    `npx jest --selectProjects=unit --testPathPatterns=${file} -t '${currentTestName ?? ''}'`;
  throw new Error(`${fc.defaultReportMessage(details) ?? 'it failed'}\n\nto see it again:\n${replay}`, {
    cause: details.errorInstance,
  });
}
