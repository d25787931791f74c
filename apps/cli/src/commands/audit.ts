import { Argument, type Command } from 'commander';
import type { AuditEntry, AuditVerdict, Scope } from '#libs/contracts';
import { wholeNumber } from '../arguments/parse-values';
import { EXIT, UsageError, type ExitCode } from '../exit-codes';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count, formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

/** This many faults are named; the others are counted. */
const FAULTS_SHOWN = 20;
const KEEP_THE_HEAD =
  'Keep this hash elsewhere: a person who rewrites the whole log cannot make it contain this hash.';
/** The most entries of one answer. */
const MOST = 10_000;

export function addAudit(program: Command, bind: Bind): void {
  program
    .command('audit')
    .description('list the acts of the killswitch, newest first; or verify that nobody changed the list')
    .addArgument(new Argument('[what]', 'verify: compute the whole chain again').choices(['verify']))
    .option('--limit <n>', `entries to list, at most ${MOST}; else 100`, wholeNumber(1, MOST))
    .action(
      bind(async (session, what: 'verify' | undefined, { limit }: { readonly limit?: number }) => {
        if (what === undefined) return await list(session, limit);
        if (limit !== undefined) throw new UsageError('--limit is for the list; verify reads all of it.');
        return await verify(session);
      }),
    );
}

async function list(session: Session, limit: number | undefined): Promise<void> {
  const page = await session.client.audit(limit === undefined ? {} : { limit });
  const { items } = page;
  if (session.isJson) return session.json(page);
  if (items.length === 0) return session.note('The audit log is empty.');
  session.print(renderAudit(items, session.width));
  if (page.nextCursor !== undefined)
    session.note(
      `There are older entries. List more with: belay audit --limit ${Math.min(items.length * 10, MOST)}`,
    );
}

/** One row for each act. */
export function renderAudit(entries: readonly AuditEntry[], width: number): string {
  const scopes = scopesOf(entries);
  return renderTable({
    head: ['N', 'TIME', 'ACT', 'BY', 'WHAT', 'ORDER OR LATCH', 'NOTE'],
    rows: entries.map((entry) => [
      String(entry.n),
      formatTime(entry.at),
      cleanText(entry.act),
      entry.by === undefined ? '-' : cleanText(entry.by),
      describeWhat(entry, scopes),
      (entry.act.startsWith('latch') ? entry.latchId : entry.orderId) ?? '-',
      describeOutcome(entry),
    ]),
    width,
    flexible: 6,
  });
}

/** The scope of each order that another of these entries names. */
function scopesOf(entries: readonly AuditEntry[]): Map<string, Scope> {
  return new Map(
    entries.flatMap(({ orderId, scope }) =>
      orderId === undefined || scope === undefined ? [] : [[orderId, scope] as const],
    ),
  );
}

/** `kill pool gpu`, `freeze everything`, `worker wrk_…`; `-` where the entry is about an order in another column. */
function describeWhat(entry: AuditEntry, scopes: ReadonlyMap<string, Scope>): string {
  const { act, kind, orderId, agentId, workerId, token } = entry;
  if (token !== undefined) return cleanText(`${token.role} ${token.name}`);
  // A caller that joined an order asked for the same scope.
  const joined = act === 'order.joined' && orderId !== undefined ? scopes.get(orderId) : undefined;
  const scope = entry.scope ?? joined;
  const words = [kind, scope === undefined ? undefined : describeScope(scope)].filter(
    (word) => word !== undefined,
  );
  if (scope === undefined && agentId !== undefined) words.push(`agent ${agentId}`);
  else if (scope === undefined && workerId !== undefined) words.push(`worker ${workerId}`);
  return words.join(' ') || '-';
}

/** The note, the order's latch, or the order's outcome: `3 killed, 1 unconfirmed`. */
function describeOutcome({ note, orderId, latchId, outcomes, missing }: AuditEntry): string {
  const counts = Object.entries(outcomes ?? {}).map(([outcome, n]) => `${n} ${outcome}`);
  if (counts.length === 0 && missing !== undefined && missing > 0) counts.push(`${missing} not confirmed`);
  if (orderId !== undefined && latchId !== undefined) counts.push(`with ${latchId}`);
  const words = [counts.join(', '), note === undefined ? '' : cleanText(note)];
  return words.filter((word) => word !== '').join(': ');
}

async function verify(session: Session): Promise<ExitCode> {
  const verdict = await session.client.verifyAudit();
  if (session.isJson) session.json(verdict);
  else for (const line of renderVerdict(verdict, session.out)) session.print(line);
  return verdict.intact ? EXIT.ok : EXIT.failed;
}

/** Whether the log is unchanged, and the hash that proves it to a reader who does not trust this server. */
export function renderVerdict(verdict: AuditVerdict, style: Style): string[] {
  const { entries, receipts, head, intact, faults } = verdict;
  const size = `${count(entries, 'entry', 'entries')} and ${count(receipts, 'receipt')}`;
  const shown = faults.slice(0, FAULTS_SHOWN);
  const rest = faults.length - shown.length;
  return [
    intact
      ? `${style.good('intact')}: ${size} are unchanged`
      : `${style.bad('changed')}: ${count(faults.length, 'fault')} in ${size}`,
    ...shown.map(({ id, fault }) => `  ${id}  ${cleanText(fault)}`),
    ...(rest > 0 ? [`  … and ${rest} more (--json has all)`] : []),
    ...(head === undefined ? [] : [`head ${head}`]),
    // The head of a changed log proves nothing.
    ...(head === undefined || !intact ? [] : [KEEP_THE_HEAD]),
  ];
}
