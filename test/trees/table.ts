import type { Containment } from '#libs/spawner';
import { percentile, round } from '../../bench/measure';
import { KINDS } from './kinds';
import type { Outcome } from './run-kind';

/** A kind, or a whole containment, that this machine cannot have. */
export interface Skipped {
  readonly kind?: string;
  readonly containment?: Containment;
  readonly skipped: string;
}

const KIND_WIDTH = Math.max(...KINDS.map(({ name }) => name.length)) + 2;
/** At most this many failures of one row are shown. */
const MOST_SHOWN = 5;
const WIDTHS = [KIND_WIDTH, 11, 8, 13, 10, 10, 10];

/** The line above the rows. */
export function heading(): string {
  return columns(['kind', 'containment', 'proved', 'unconfirmed', 'survived', 'p50 ms', 'p99 ms']);
}

/** One kind in one containment, and below it its failures. */
export function row(outcome: Outcome): string {
  const { kind, containment, proved, unconfirmed, survived, provedMs, failures } = outcome;
  const times = [0.5, 0.99].map((part) =>
    provedMs.length === 0 ? '-' : percentile(provedMs, part).toFixed(1),
  );
  const line = columns([kind, containment, ...[proved, unconfirmed, survived].map(String), ...times]);
  const failed = failures
    .slice(0, MOST_SHOWN)
    .map((each) => `  FAILED ${kind}, ${containment}, round ${each.round}: ${each.what}`);
  if (failures.length > MOST_SHOWN)
    failed.push(`  … and ${failures.length - MOST_SHOWN} more; --json has them all`);
  const note = isKnown(outcome) ? '  known: this containment cannot see it' : '';
  return [line + note, ...failed].join('\n');
}

/** Whether the survivors are those that the kind predicts. */
export function isKnown({ kind, containment, isolation, survived }: Outcome): boolean {
  if (isolation === 'user') return false;
  return survived > 0 && KINDS.some(({ name, unseenIn }) => name === kind && unseenIn === containment);
}

/** A row for a kind that is not tested here, with the reason. */
export function skippedRow({ kind, containment, skipped }: Skipped): string {
  return `${columns([kind ?? 'every kind', containment ?? 'all'])}  skipped: ${skipped}`;
}

/** An outcome for a program; times are milliseconds from asked to proved dead. */
export function toJson({ provedMs, ...outcome }: Outcome): string {
  const times =
    provedMs.length === 0
      ? {}
      : { provedMsP50: round(percentile(provedMs, 0.5)), provedMsP99: round(percentile(provedMs, 0.99)) };
  return JSON.stringify({ ...outcome, ...times });
}

/** The last line. */
export function summary(outcomes: readonly Outcome[], seconds: number): string {
  const sum = (of: (outcome: Outcome) => number): number => outcomes.reduce((all, each) => all + of(each), 0);
  const failures = sum((each) => each.failures.length);
  const knowns = sum((each) => (isKnown(each) ? each.survived : 0));
  const counts = [
    `${sum((each) => each.rounds)} trees stopped in ${seconds.toFixed(0)} s`,
    `${sum((each) => each.proved)} proved`,
    `${sum((each) => each.unconfirmed)} unconfirmed`,
    failures > 0
      ? `${failures} failed`
      : knowns > 0
        ? `${knowns} outlived their proof, as is known`
        : 'no process outlived its proof',
  ];
  return counts.join(', ');
}

function columns(cells: readonly string[]): string {
  return cells
    .map((cell, i) => (i < 2 ? cell.padEnd(WIDTHS[i] ?? 0) : cell.padStart(WIDTHS[i] ?? 0)))
    .join(' ')
    .trimEnd();
}
