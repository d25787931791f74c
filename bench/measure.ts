/** One printed result: what was measured, beside which limits, and the ratios between them. */
export interface BenchResult {
  readonly name: string;
  readonly figures: Readonly<Record<string, number>>;
  /** Ours divided by the limit of the same run; above 1 means slower (times) or more (counts). */
  readonly ratios: Readonly<Record<string, number>>;
  /** What the machine and the server do without Belay, in the same run. */
  readonly limits: Readonly<Record<string, number>>;
}

export interface BenchOptions {
  readonly quick: boolean;
}

/** The value below which a part of the samples lies. */
export function percentile(samples: readonly number[], part: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5);

/** Three significant places are more than these machines can tell apart. */
export function round(value: number): number {
  return Number(value.toPrecision(3));
}

/** `<name>MsP50` and `<name>MsP99` of samples in milliseconds. */
export function spread(name: string, samples: readonly number[]): Record<string, number> {
  return { [`${name}MsP50`]: round(median(samples)), [`${name}MsP99`]: round(percentile(samples, 0.99)) };
}

/** Milliseconds `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
