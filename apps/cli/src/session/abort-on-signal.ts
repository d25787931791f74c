import type { CliProcess } from './cli-process';

/** An abort signal for a command that follows something: Ctrl-C ends it, and so does the end of its reader. */
export function abortOnSignal(cli: CliProcess): {
  readonly signal: AbortSignal;
  readonly wasInterrupted: () => boolean;
  readonly release: () => void;
} {
  const controller = new AbortController();
  let interrupted = false;
  const closed = (): void => controller.abort();
  const release = cli.onSignal(() => {
    interrupted = true;
    controller.abort();
  });
  cli.outputClosed.addEventListener('abort', closed, { once: true });
  if (cli.outputClosed.aborted) closed();
  return {
    signal: controller.signal,
    wasInterrupted: () => interrupted,
    release: () => {
      release();
      cli.outputClosed.removeEventListener('abort', closed);
    },
  };
}
