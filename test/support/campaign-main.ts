/**
 * Runs the main function of a campaign's command. A first signal lets the work under way finish and be cleaned up (`signal` is
 * aborted); a second one ends the process at once, and the guardians kill.
 *
 * @param main resolves with the exit code; that of an interruption stays.
 */
export function runCampaign(main: (args: readonly string[], signal: AbortSignal) => Promise<number>): void {
  const interrupted = new AbortController();
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.on(signal, () => {
      if (interrupted.signal.aborted) process.exit(code);
      interrupted.abort();
      process.exitCode = code;
    });
  main(process.argv.slice(2), interrupted.signal)
    .catch((error: unknown) => {
      console.error(error);
      return 1;
    })
    .then((code) => (process.exitCode ??= code))
    .catch(console.error);
}

/** Prints one line of results. */
export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
