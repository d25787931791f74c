import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import {
  EXECUTION_MACHINE,
  isEnded,
  statesOf,
  type ExecutionRecord,
  type ExecutionState,
} from '#libs/contracts';
import { collectLabel, listOf } from '../arguments/parse-values';
import { renderExecutions } from '../execution/execution-table';
import { findWaiting, isWaiting } from '../execution/find-waiting';
import { describeWaiting, type Waiting } from '../execution/waiting';
import { EXIT, exitCodeOfError, UsageError, type ExitCode } from '../exit-codes';
import { LiveBlock } from '../progress/live-block';
import { abortOnSignal } from '../session/abort-on-signal';
import { collectPages } from '../session/collect-pages';
import { keepFlags } from '../session/keep-flags';
import type { Session } from '../session/session';
import { cut } from '../text/width';
import type { Bind } from './action';

interface PsOptions {
  readonly all?: boolean;
  readonly state?: readonly ExecutionState[];
  readonly label?: Readonly<Record<string, string>>;
  readonly watch?: boolean;
}

const STATES = statesOf(EXECUTION_MACHINE);
/** At most this many executions are listed. */
const LISTED = 1_000;
/** For at most this many executions the reason why none of their agents runs is looked up. */
const EXPLAINED = 10;

/** The time between two lists of `--watch`. Milliseconds. */
const WATCH_MS = 2_000;

export function addPs(program: Command, bind: Bind): void {
  program
    .command('ps')
    .description('list executions: those not ended, or all')
    .option('--all', 'ended ones too')
    .option('--state <states>', `only these, joined by commas: ${STATES.join(', ')}`, listOf(STATES))
    .option('-l, --label <k=v>', 'only with this label; may be repeated', collectLabel)
    .option('-w, --watch', 'draw the list again every two seconds, until Ctrl-C')
    .action(
      bind(async (session, options: PsOptions) => {
        if (options.watch === true) return await watchList(session, options);
        const list = await readList(session, options);
        if (session.isJson) {
          const { items, isMore, isCut, waiting } = list;
          return session.json({ items, truncated: isMore || isCut, waiting: Object.fromEntries(waiting) });
        }
        if (list.items.length > 0)
          session.print(renderExecutions(list.items, session.out, session.width, Date.now()));
        for (const line of notesOf(list, options)) session.note(line);
      }),
    );
}

interface Listed {
  readonly items: readonly ExecutionRecord[];
  readonly isMore: boolean;
  readonly isCut: boolean;
  readonly waiting: ReadonlyMap<string, readonly Waiting[]>;
}

async function readList({ client }: Session, options: PsOptions, signal?: AbortSignal): Promise<Listed> {
  const active = STATES.filter((state) => !isEnded(EXECUTION_MACHINE, state));
  const state = options.state ?? (options.all === true ? undefined : active);
  const listed = await collectPages<ExecutionRecord>(LISTED, async (cursor, limit) =>
    client.executions({
      ...(state === undefined ? {} : { state }),
      ...(options.label === undefined ? {} : { labels: options.label }),
      ...(signal === undefined ? {} : { signal }),
      ...cursor,
      limit,
    }),
  );
  // Only for executions without a live agent, and not for a long list: these are the ones about which a person wonders.
  const stuck = listed.items.filter((item) => isWaiting(item) && item.live === 0).slice(0, EXPLAINED);
  const waiting = await findWaiting(client, stuck).catch(() => new Map<string, Waiting[]>());
  return { ...listed, waiting };
}

function notesOf({ items, isMore, isCut, waiting }: Listed, options: PsOptions): string[] {
  if (items.length === 0)
    return [
      options.all === true || options.state !== undefined
        ? 'No executions. Start one with: belay run FILE'
        : 'Nothing runs. Ended executions: belay ps --all. Start one with: belay run FILE',
    ];
  const reasons = [...waiting].flatMap(([id, all]) => describeWaiting(all).map((line) => `${id}  ${line}`));
  if (isCut) reasons.push('The server does not list older ones; narrow the list with --state or --label.');
  if (isMore) reasons.push(`The first ${items.length} are shown; narrow the list with --state or --label.`);
  return reasons;
}

/** Draws the list over itself. Where the orchestrator does not answer, the last list stays, with the reason below it. */
async function watchList(session: Session, options: PsOptions): Promise<ExitCode> {
  const { stdout } = session.process;
  if (!stdout.isTTY || session.isJson)
    throw new UsageError('--watch draws on a terminal. For programs: belay events --json');
  const ending = abortOnSignal(session.process);
  const { signal } = ending;
  const block = new LiveBlock(stdout);
  let lines: readonly string[] | undefined;
  try {
    while (!signal.aborted) {
      let trouble: readonly string[] = [];
      try {
        lines = drawnList(session, await readList(session, options, signal), options);
      } catch (error) {
        if (lines === undefined || exitCodeOfError(error) !== EXIT.unreachable) throw error;
        trouble = [cut((error as Error).message.split('\n')[0] ?? '', stdout.columns)];
      }
      block.draw(fitted([...lines, ...trouble], stdout.rows));
      await sleep(WATCH_MS, undefined, { signal }).catch(() => undefined);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    ending.release();
  }
  return ending.wasInterrupted() ? EXIT.interrupted : EXIT.ok;
}

function drawnList(session: Session, list: Listed, options: PsOptions): string[] {
  const { columns } = session.process.stdout;
  const notes = notesOf(list, options).map((line) => cut(keepFlags(line, session.options), columns));
  if (list.items.length === 0) return notes;
  return [...renderExecutions(list.items, session.out, session.width, Date.now()).split('\n'), ...notes];
}

/** The cursor stands below the block, so the block has one line less than the terminal. */
function fitted(lines: readonly string[], rows: number): readonly string[] {
  const room = Math.max(1, rows - 1);
  if (lines.length <= room) return lines;
  return [...lines.slice(0, room - 1), `… ${lines.length - room + 1} more lines`];
}
