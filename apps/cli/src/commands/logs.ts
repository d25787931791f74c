import type { Command } from 'commander';
import type { LogLine } from '#libs/client';
import { BelayError } from '#libs/contracts';
import { readNode } from '../execution/read-node';
import { kindOf, requireId, resolveExecutionId } from '../arguments/resolve-id';
import { EXIT, type ExitCode } from '../exit-codes';
import type { Bind } from './action';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { cleanLogLine } from '../text/clean-text';

export function addLogs(program: Command, bind: Bind): void {
  program
    .command('logs')
    .description('print what an agent wrote; its stderr too, dimmed on a terminal')
    .argument('<agent>', 'agent id, or EXECUTION/NODE for its latest attempt')
    .option('-f, --follow', 'stay and print what comes, until the agent ends')
    .action(
      bind(async (session, target: string, options: { readonly follow?: boolean }) => {
        const agentId = await findAgent(session, target);
        return options.follow === true ? await follow(session, agentId) : await printAll(session, agentId);
      }),
    );
}

async function findAgent(session: Session, target: string): Promise<string> {
  if (kindOf(target) === 'agent' || !target.includes('/')) return requireId(target, 'agent');
  const [execution = '', ...rest] = target.split('/');
  const executionId = await resolveExecutionId(session.client, execution);
  const node = await readNode(session.client, executionId, rest.join('/'));
  if (node.agentId !== undefined) return node.agentId;
  throw new BelayError('NOT_FOUND', `Node ${node.id} has no agent yet: it is ${node.state}.`);
}

async function printAll(session: Session, agentId: string): Promise<void> {
  const logs = await session.client.logs(agentId);
  if (session.isJson) return session.json(logs);
  for (const line of logs.lines) printLine(session, line);
  if (logs.truncated) session.note('The log is longer than what is shown.');
}

async function follow(session: Session, agentId: string): Promise<ExitCode> {
  const ending = abortOnSignal(session.process);
  try {
    for await (const line of session.client.logs(agentId, {
      follow: true,
      signal: ending.signal,
      onReconnect: ({ delayMs }) => session.note(`connection lost; again in ${delayMs} ms`),
    })) {
      printLine(session, line);
    }
    return ending.wasInterrupted() ? EXIT.interrupted : EXIT.ok;
  } finally {
    ending.release();
  }
}

function printLine(session: Session, line: LogLine): void {
  if (session.isJson) return session.json(line);
  // Into a file or a pipe goes what the agent wrote, byte for byte; a terminal is kept from being driven by it.
  const text = session.process.stdout.isTTY ? cleanLogLine(line.line) : line.line;
  session.printRaw(line.stream === 'stderr' ? session.out.dim(text) : text);
}
