import { isBelayError, type ErrorCode, type ExecutionRecord, type ExecutionState } from '#libs/contracts';
import { EXIT, type ExitCode } from '../exit-codes';
import { collectPages } from '../session/collect-pages';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { count } from '../text/format';

/** One call retries at most this many executions. */
const MOST = 1_000;

/** Errors that are not about this one execution: the next retry would meet the same. */
const ENDS_ALL: ReadonlySet<ErrorCode> = new Set([
  'SERVER_UNREACHABLE',
  'SERVER_REFUSED',
  'DRAINING',
  'UNAUTHORIZED',
  'OUTCOME_UNKNOWN',
]);

export interface Selection {
  readonly labels?: Readonly<Record<string, string>>;
  readonly states: readonly ExecutionState[];
  readonly force: boolean;
  readonly dryRun: boolean;
}

interface Refusal {
  readonly executionId: string;
  readonly code: string;
  readonly message: string;
}

/** Retries each execution of a selection, oldest first. A refused retry is reported, and does not stop the others. */
export async function retryMany(session: Session, selection: Selection): Promise<ExitCode> {
  const { items, isMore } = await select(session, selection);
  const more = isMore ? { more: true } : {};
  if (selection.dryRun) {
    const ids = items.map(({ id }) => id);
    if (session.isJson) session.json({ retried: [], would: ids, refused: [], ...more });
    else for (const { id, name, state } of items) session.print(`${id}  ${state}  ${cleanText(name)}`);
    if (!session.isJson) session.print(`${count(ids.length, 'execution')} would be retried; none was`);
    return EXIT.ok;
  }
  const retried: string[] = [];
  const refused: Refusal[] = [];
  try {
    for (const { id } of items) {
      const refusal = await retryOne(session, id, selection.force);
      if (refusal === undefined) retried.push(id);
      else refused.push(refusal);
      if (!session.isJson)
        session.print(
          refusal === undefined ? `${id}  retried` : `${id}  ${refusal.code}  ${cleanText(refusal.message)}`,
        );
    }
  } finally {
    // Also where the other executions could not be listed: the retries so far are done.
    const left = items.length - retried.length - refused.length;
    if (session.isJson) session.json({ retried, refused, ...(left === 0 ? {} : { left }), ...more });
    else session.print(summaryOf(retried.length, refused.length, left));
  }
  if (isMore && !session.isJson)
    session.note(`Only ${MOST} are retried at a time. Run it again for the rest.`);
  return refused.length === 0 ? EXIT.ok : EXIT.failed;
}

async function select(
  session: Session,
  { labels, states }: Selection,
): Promise<{ items: readonly ExecutionRecord[]; isMore: boolean }> {
  const { items, isMore, isCut } = await collectPages<ExecutionRecord>(
    MOST,
    async (cursor, limit) =>
      await session.client.executions({
        state: states,
        ...(labels === undefined ? {} : { labels }),
        ...cursor,
        limit,
      }),
  );
  return { items: items.toReversed(), isMore: isMore || isCut };
}

/** The refusal; undefined when the execution goes on. @throws an error that every other retry would meet as well */
async function retryOne(session: Session, id: string, force: boolean): Promise<Refusal | undefined> {
  try {
    await session.client.retryExecution(id, force ? { force } : {});
    return undefined;
  } catch (error) {
    if (!isBelayError(error) || ENDS_ALL.has(error.code)) throw error;
    return { executionId: id, code: error.code, message: error.message };
  }
}

function summaryOf(retried: number, refused: number, left: number): string {
  const parts = [`${count(retried, 'execution')} retried`];
  if (refused > 0) parts.push(`${refused} refused`);
  if (left > 0) parts.push(`${left} not asked for`);
  return parts.join(', ');
}
