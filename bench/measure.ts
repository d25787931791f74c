/** One printed result: the measurement, its limits, and the ratios between them. */
export interface BenchResult {
  readonly name: string;
  readonly figures: Readonly<Record<string, number>>;
  /** Ours divided by the limit of the same run; above 1 means slower (times) or more (counts). */
  readonly ratios: Readonly<Record<string, number>>;
  /** Figures of the machine and the server without Belay, from the same run. */
  readonly limits: Readonly<Record<string, number>>;
}

export interface BenchOptions {
  readonly quick: boolean;
  /** As little as shows that the benchmark works. It is quick, too. */
  readonly least: boolean;
  /** For the benchmark `handlers`: how many. */
  readonly count?: number | undefined;
}

/** The value below which that share of the samples lies. */
export function percentile(samples: readonly number[], part: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5);

/** Three significant digits are more than these machines can tell apart. */
export function round(value: number): number {
  return Number(value.toPrecision(3));
}

/** How many times as long (or as many) ours is. */
export const ratio = (ours: number, limit: number): number => round(ours / limit);

export const perSecond = (count: number, ms: number): number => round((count * 1_000) / ms);

/** `<name>MsP50` and `<name>MsP99` of samples in milliseconds. */
export function spread(name: string, samples: readonly number[]): Record<string, number> {
  return { [`${name}MsP50`]: round(median(samples)), [`${name}MsP99`]: round(percentile(samples, 0.99)) };
}

/** The milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** The time of several lanes together, and of each of their steps. */
export interface Lanes {
  readonly ms: number;
  readonly samples: readonly number[];
}

/** `count` lanes at once, each doing `rounds` steps one after the other. */
export async function runLanes(
  count: number,
  rounds: number,
  step: (lane: number, round: number) => Promise<unknown>,
): Promise<Lanes> {
  const samples: number[] = [];
  const ms = await timed(async () =>
    Promise.all(
      Array.from({ length: count }, async (_, lane) => {
        for (let i = 0; i < rounds; i++) samples.push(await timed(async () => step(lane, i)));
      }),
    ),
  );
  return { ms, samples };
}

/** Several runs of lanes as one. */
export function joinLanes(runs: readonly Lanes[]): Lanes {
  return { ms: runs.reduce((sum, run) => sum + run.ms, 0), samples: runs.flatMap((run) => run.samples) };
}

/** `promise`, or an error once `ms` have passed: every wait of a benchmark is bounded. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
