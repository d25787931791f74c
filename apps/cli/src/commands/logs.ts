import type { Command } from 'commander';
import { BelayError } from '#libs/contracts';
import { kindOf, resolveExecutionId } from '../arguments/resolve-id';
import { wholeNumber } from '../arguments/parse-values';
import { readNode } from '../execution/read-node';
import { UsageError } from '../exit-codes';
import { followAgent, printAgent } from '../logs/agent-logs';
import { followExecution, printExecution } from '../logs/execution-logs';
import type { Session } from '../session/session';
import type { Bind } from './action';

/** The server keeps fewer lines of one agent. */
const MOST_LINES = 1_000_000;

interface LogsOptions {
  readonly follow?: boolean;
  readonly tail?: number;
}

export function addLogs(program: Command, bind: Bind): void {
  program
    .command('logs')
    .description('print the stdout and stderr of agents; stderr is dimmed on a terminal')
    .argument('<target>', 'execution: all its nodes; EXECUTION/NODE: its latest attempt; or agent id')
    .option('-f, --follow', 'stay and print new output until the end')
    .option('-n, --tail <lines>', 'only so many of the last lines of each agent', wholeNumber(0, MOST_LINES))
    .action(
      bind(async (session, target: string, { follow = false, tail }: LogsOptions) => {
        const found = await findTarget(session, target);
        if ('agentId' in found)
          return follow
            ? await followAgent(session, found.agentId, tail)
            : await printAgent(session, found.agentId, tail);
        if (!follow) return await printExecution(session, found.executionId, tail);
        if (tail !== undefined)
          throw new UsageError(
            '--follow and --tail together are for one agent: belay logs --follow --tail N EXECUTION/NODE',
          );
        return await followExecution(session, found.executionId);
      }),
    );
}

type Target = { readonly agentId: string } | { readonly executionId: string };

async function findTarget(session: Session, target: string): Promise<Target> {
  if (kindOf(target) === 'agent') return { agentId: target };
  const [execution = '', ...rest] = target.split('/');
  const executionId = await resolveExecutionId(session.client, execution);
  if (rest.length === 0) return { executionId };
  const node = await readNode(session.client, executionId, rest.join('/'));
  if (node.agentId !== undefined) return { agentId: node.agentId };
  throw new BelayError('NOT_FOUND', `Node ${node.id} has no agent yet: it is ${node.state}.`);
}
