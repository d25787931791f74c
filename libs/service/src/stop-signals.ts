/** The signals that ask a process to end in good order. */
const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Listens for SIGTERM and SIGINT, counted together: calls `first` at the first one, and `repeat` with its number at each later
 * one.
 * @returns a function that removes the listeners
 */
export function onStopSignals(
  first: (signal: string) => void,
  repeat: (signal: string, count: number) => void,
): () => void {
  let count = 0;
  const heard = (signal: string): void => {
    count++;
    if (count === 1) first(signal);
    else repeat(signal, count);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, heard);
  return () => {
    for (const signal of STOP_SIGNALS) process.off(signal, heard);
  };
}
