import { EXECUTION_MACHINE, isAllowed, isEnded, statesOf, type ExecutionState } from '#libs/contracts';
import type { Command } from 'commander';
import { collectLabel, listOf, positiveNumber, wholeNumber } from '../arguments/parse-values';
import { resolveExecutionId } from '../arguments/resolve-id';
import { EXIT, UsageError, type ExitCode } from '../exit-codes';
import { watchExecution } from '../progress/watch-execution';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { retryMany, type Selection } from './retry-many';

interface RetryOptions {
  readonly force?: boolean;
  readonly watch?: boolean;
  readonly maxCost?: number;
  readonly maxTokens?: number;
  readonly label?: Readonly<Record<string, string>>;
  readonly all?: boolean;
  readonly state?: readonly ExecutionState[];
  readonly dryRun?: boolean;
}

/** The ended states from which an execution can go on. */
const RETRIABLE = statesOf(EXECUTION_MACHINE).filter(
  (state) => isEnded(EXECUTION_MACHINE, state) && isAllowed(EXECUTION_MACHINE, state, 'running'),
);

/** `retry`: continues an ended execution. */
export function addRetry(program: Command, bind: Bind): void {
  program
    .command('retry')
    .description('continue a stopped or failed execution; completed nodes keep their results')
    .argument('[execution]', 'execution id')
    .option('--label <k=v>', 'each failed one with this label; may be repeated', collectLabel)
    .option('--all', 'each failed one')
    .option(
      '--state <states>',
      `with --label or --all: ${RETRIABLE.join(', ')}, joined by commas`,
      listOf(RETRIABLE),
    )
    .option('--dry-run', 'with --label or --all: only list them')
    .option('--force', 'retry although an attempt was lost and never seen dead: it may run twice')
    .option(
      '--max-cost <usd>',
      'its budget from here on, in US dollars; costs from before stay counted',
      positiveNumber,
    )
    .option(
      '--max-tokens <count>',
      'the same in tokens of language models',
      wholeNumber(1, 1_000_000_000_000),
    )
    .option('--watch', 'follow it to its end')
    .action(
      bind(async (session, given: string | undefined, options: RetryOptions) => {
        const many = selectionOf(given, options);
        if (many !== undefined) return await retryMany(session, many);
        const id = await resolveExecutionId(session.client, given ?? '');
        return await retryAndShow(session, id, options);
      }),
    );
}

/** Undefined where one execution is named. @throws UsageError */
function selectionOf(given: string | undefined, options: RetryOptions): Selection | undefined {
  const { label: labels, all = false, state: states, dryRun = false, force = false, watch = false } = options;
  const isMany = labels !== undefined || all;
  if (given === undefined && !isMany)
    throw new UsageError(
      'retry needs an execution, --label k=v, or --all. List the failed ones: belay ps --state failed',
    );
  if (given !== undefined && (isMany || states !== undefined || dryRun))
    throw new UsageError(
      '--label, --all, --state and --dry-run are for many executions: leave the execution out.',
    );
  if (labels !== undefined && all) throw new UsageError('Give --label or --all, not both.');
  if (!isMany) return undefined;
  if (options.maxCost !== undefined || options.maxTokens !== undefined)
    throw new UsageError('--max-cost and --max-tokens are budgets of one execution: name it.');
  if (watch) throw new UsageError('--watch follows one execution: name it.');
  return { ...(labels === undefined ? {} : { labels }), states: states ?? ['failed'], force, dryRun };
}

async function retryAndShow(
  session: Session,
  id: string,
  { force, watch, maxCost, maxTokens }: RetryOptions,
): Promise<ExitCode> {
  const execution = await session.client.retryExecution(id, {
    ...(force === true ? { force } : {}),
    ...(maxCost === undefined ? {} : { maxCostUsd: maxCost }),
    ...(maxTokens === undefined ? {} : { maxTokens }),
  });
  if (watch === true) return await watchExecution(session, execution, { fromEpoch: execution.epoch });
  if (session.isJson) session.json(execution);
  else {
    const { total, completed } = execution.nodes;
    session.print(`${id}  ${session.out.state(execution.state)}`);
    session.print(`${completed} of ${total} nodes keep their results; the others begin again`);
    session.note(`Follow it: belay watch ${id}`);
  }
  return EXIT.ok;
}
