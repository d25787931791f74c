import { renderDeeds } from './deeds-table';
import type { SeedResult } from './run-seed';
import { FAULTS, type FaultKind, type Profile } from './plan-types';

/** The results of the seeds with a fault. A seed has several faults, so their rows overlap. */
interface Row {
  injected: number;
  seeds: number;
  takeovers: number;
  complete: number;
  incomplete: number;
  unanswered: number;
  completed: number;
  failed: number;
  stopped: number;
  /** Accepted, and nothing was to end it. */
  meant: number;
  /** And completed. */
  did: number;
}

const HEADINGS: readonly (keyof Row)[] = [
  'injected',
  'seeds',
  'takeovers',
  'complete',
  'incomplete',
  'unanswered',
  'completed',
  'failed',
  'stopped',
  'meant',
  'did',
];

/** The numbers of one seed. */
function countSeed({ history }: SeedResult): Omit<Row, 'injected' | 'seeds'> {
  const executions = history?.executions ?? [];
  const ended = (state: string): number => executions.filter((one) => one.state === state).length;
  const receipts = history?.receipts.filter(({ kind }) => kind === 'kill') ?? [];
  return {
    takeovers: executions.flatMap(({ agents }) => agents).filter(({ reason }) => reason === 'worker_lost')
      .length,
    complete: receipts.filter(({ complete }) => complete).length,
    incomplete: receipts.filter(({ complete }) => !complete).length,
    unanswered: history?.orders.filter(({ answeredAt }) => answeredAt === undefined).length ?? 0,
    completed: ended('completed'),
    failed: ended('failed'),
    stopped: ended('stopped'),
    meant: executions.filter(({ meant }) => meant === true).length,
    did: executions.filter(({ meant, state }) => meant === true && state === 'completed').length,
  };
}

/** Fault kind × how often it was injected and the results of those seeds; the last row is of all seeds. */
export function faultTable(results: readonly SeedResult[]): Map<FaultKind | 'all seeds', Row> {
  const rows = new Map<FaultKind | 'all seeds', Row>();
  for (const kind of [...FAULTS, 'all seeds'] as const) {
    const mine = results.filter(({ injected }) => kind === 'all seeds' || injected.includes(kind));
    const row = Object.fromEntries(HEADINGS.map((name) => [name, 0])) as unknown as Row;
    for (const result of mine) {
      row.injected += result.injected.filter((one) => kind === 'all seeds' || one === kind).length;
      row.seeds++;
      for (const [name, count] of Object.entries(countSeed(result))) row[name as keyof Row] += count;
    }
    rows.set(kind, row);
  }
  return rows;
}

export function renderTable(results: readonly SeedResult[]): string {
  const line = (name: string, cells: readonly string[]): string =>
    [name.padEnd(26), ...cells.map((cell) => cell.padStart(10))].join(' ');
  return [
    line('fault', HEADINGS),
    ...[...faultTable(results)].map(([kind, row]) =>
      line(
        kind,
        HEADINGS.map((name) => String(row[name])),
      ),
    ),
    ...skippedLines(results),
    '',
    renderDeeds(results),
  ].join('\n');
}

/** Faults that this machine could not do in any seed. */
function skippedLines(results: readonly SeedResult[]): string[] {
  const whys = new Map(results.flatMap(({ skipped }) => skipped.map(({ kind, why }) => [kind, why])));
  return [...whys].map(([kind, why]) => {
    const count = results.filter(({ skipped }) => skipped.some((one) => one.kind === kind)).length;
    return `${kind} was skipped in ${count} seeds: ${why}`;
  });
}

/** One seed in one line, and below it what went wrong and how to repeat it. */
export function seedLine(result: SeedResult, profile: Profile): string {
  const { seed, seconds, violations, injected, timeline, logs } = result;
  const { takeovers, complete, incomplete, completed, failed, stopped, meant, did } = countSeed(result);
  const ends = `${completed} completed (${did} of ${meant} meant to), ${failed} failed, ${stopped} stopped`;
  const seen = `${ends}; ${takeovers} takeovers; receipts ${complete} complete, ${incomplete} not`;
  const head = `seed ${String(seed).padEnd(5)} ${seconds.toFixed(1).padStart(5)} s  ${violations.length === 0 ? 'ok    ' : 'FAILED'}  ${seen}; ${injected.join(' ')}`;
  if (violations.length === 0) return head;
  const { ground } = result.plan;
  const more = [profile.name === 'short' ? ' --short' : '', ground === 'server' ? '' : ` --ground ${ground}`];
  const again = `npm run faults -- --seeds 1 --from ${seed}${more.join('')}`;
  return [
    head,
    ...violations.map(({ rule, what }) => `  ${rule}: ${what}`),
    '  timeline, seconds:',
    ...timeline.map(({ at, what }) => `    ${at.toFixed(2).padStart(6)}  ${what}`),
    ...(logs === undefined ? [] : [`  logs and history: ${logs}`]),
    `  again: ${again}`,
  ].join('\n');
}

/** A seed for a program; only a failed seed's history is kept, as a file. */
export function toJson(result: SeedResult): string {
  return JSON.stringify({ ...result, plan: undefined, history: undefined, ...countSeed(result) });
}

/** The last line. */
export function summary(results: readonly SeedResult[]): string {
  const total = results.reduce((sum, { seconds }) => sum + seconds, 0);
  const violations = results.reduce((sum, result) => sum + result.violations.length, 0);
  const failed = results.filter((result) => result.violations.length > 0).map(({ seed }) => seed);
  const verdict =
    violations === 0 ? 'no violation' : `${violations} violations in seeds ${failed.join(', ')}`;
  const { completed, failed: lost, stopped, meant, did } = faultTable(results).get('all seeds') as Row;
  const mix = `${did} of ${meant} executions that were meant to complete did, of ${completed + lost + stopped} in all`;
  return `${mix}\n${results.length} seeds in ${total.toFixed(0)} s, ${(total / Math.max(1, results.length)).toFixed(1)} s a seed: ${verdict}`;
}
