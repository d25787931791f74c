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
import type { Bind } from './action';
import { collectPages } from '../session/collect-pages';

interface PsOptions {
  readonly all?: boolean;
  readonly state?: readonly ExecutionState[];
  readonly label?: Readonly<Record<string, string>>;
}

/** At most this many executions are listed. */
const LISTED = 1_000;
/** For at most this many executions the reason why none of their agents runs is looked up. */
const EXPLAINED = 10;

export function addPs(program: Command, bind: Bind): void {
  const states = statesOf(EXECUTION_MACHINE);
  program
    .command('ps')
    .description('list executions: those not ended, or all')
    .option('--all', 'ended ones too')
    .option('--state <states>', `only these, joined by commas: ${states.join(', ')}`, listOf(states))
    .option('--label <k=v>', 'only with this label; may be repeated', collectLabel)
    .action(
      bind(async (session, options: PsOptions) => {
        const active = states.filter((state) => !isEnded(EXECUTION_MACHINE, state));
        const state = options.state ?? (options.all === true ? undefined : active);
        const { items, isMore, isCut } = await collectPages<ExecutionRecord>(
          LISTED,
          async (cursor, limit) =>
            await session.client.executions({
              ...(state === undefined ? {} : { state }),
              ...(options.label === undefined ? {} : { labels: options.label }),
              ...cursor,
              limit,
            }),
        );
        // Only for executions without a live agent, and not for a long list: these are the ones about which a person wonders.
        const stuck = items.filter((item) => isWaiting(item) && item.live === 0).slice(0, EXPLAINED);
        const waiting = await findWaiting(session.client, stuck).catch(() => new Map<string, Waiting[]>());
        if (session.isJson)
          return session.json({ items, truncated: isMore || isCut, waiting: Object.fromEntries(waiting) });
        if (items.length === 0) {
          session.note(
            options.all === true || options.state !== undefined
              ? 'No executions. Start one with: belay run FILE'
              : 'Nothing runs. Ended executions: belay ps --all. Start one with: belay run FILE',
          );
          return;
        }
        session.print(renderExecutions(items, session.out, session.width, Date.now()));
        for (const [id, reasons] of waiting)
          for (const line of describeWaiting(reasons)) session.note(`${id}  ${line}`);
        if (isCut)
          session.note('The server does not list older ones; narrow the list with --state or --label.');
        if (isMore)
          session.note(`The first ${items.length} are shown; narrow the list with --state or --label.`);
      }),
    );
}
