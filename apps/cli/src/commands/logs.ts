import type { Command } from 'commander';
import type { LogEnd } from '#libs/client';
import { BelayError, type LogFile, type LogLine, type OutputSize } from '#libs/contracts';
import { readNode } from '../execution/read-node';
import { kindOf, requireId, resolveExecutionId } from '../arguments/resolve-id';
import { EXIT, type ExitCode } from '../exit-codes';
import type { Bind } from './action';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { cleanLogLine, cleanText } from '../text/clean-text';

export function addLogs(program: Command, bind: Bind): void {
  program
    .command('logs')
    .description('print the stdout and stderr of an agent; stderr is dimmed on a terminal')
    .argument('<agent>', 'agent id, or EXECUTION/NODE for its latest attempt')
    .option('-f, --follow', 'stay and print new output until the agent ends')
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
  const printer = new LinePrinter(session);
  for (const line of logs.lines) printer.print(line, logs.file);
  printer.end();
  const { file, skipped } = logs;
  const told = (of: keyof OutputSize): number =>
    logs.lines.reduce((sum, line) => sum + (line.skipped?.[of] ?? 0), 0);
  // Lines missing after the last one have no later line that could report them.
  if (skipped.lines > told('lines'))
    printer.gap({ lines: skipped.lines - told('lines'), bytes: skipped.bytes - told('bytes') }, file);
  if (skipped.lines > 0) session.note(describeFile(logs.total, file));
}

async function follow(session: Session, agentId: string): Promise<ExitCode> {
  const ending = abortOnSignal(session.process);
  const printer = new LinePrinter(session);
  let last: LogEnd | undefined;
  try {
    for await (const line of session.client.logs(agentId, {
      follow: true,
      signal: ending.signal,
      onReconnect: ({ delayMs }) => session.note(`connection lost; next try in ${delayMs} ms`),
      onEnd: (end) => (last = end),
    })) {
      printer.print(line, undefined);
    }
    printer.end();
    if (last?.skipped !== undefined) printer.gap(last.skipped, last.file);
    else if (printer.hasGaps && last?.file !== undefined) session.note(describeFile(undefined, last.file));
    return ending.wasInterrupted() ? EXIT.interrupted : EXIT.ok;
  } finally {
    ending.release();
  }
}

/** Prints lines unchanged, and reports where some are missing. */
class LinePrinter {
  hasGaps = false;
  #isOpen = false;

  constructor(private readonly session: Session) {}

  print(line: LogLine, file: LogFile | undefined): void {
    const { session } = this;
    if (line.skipped !== undefined) this.gap(line.skipped, file);
    if (session.isJson) return session.json(line);
    this.#isOpen = line.partial === true;
    // A file or a pipe gets the agent's bytes unchanged. For a terminal, control sequences are removed.
    if (!session.process.stdout.isTTY && line.base64 !== undefined)
      session.write(Buffer.from(line.base64, 'base64'));
    else {
      const text = session.process.stdout.isTTY ? cleanLogLine(line.line) : line.line;
      session.write(line.stream === 'stderr' ? session.out.dim(text) : text);
    }
    if (!this.#isOpen) session.write('\n');
  }

  /** Ends the line, so that later output on a terminal begins on a new one. */
  end(): void {
    if (this.#isOpen && this.session.process.stdout.isTTY) this.session.write('\n');
    this.#isOpen = false;
  }

  gap(skipped: OutputSize, file: LogFile | undefined): void {
    this.hasGaps = true;
    this.end();
    const where = file === undefined ? '' : `; they are in ${placeOf(file)}`;
    this.session.note(`… ${sizeOf(skipped)} left out here${where}`);
  }
}

const sizeOf = ({ lines, bytes }: OutputSize): string =>
  `${lines} ${lines === 1 ? 'line' : 'lines'} (${bytes} bytes)`;

const placeOf = ({ host, path }: LogFile): string => `${cleanText(path)} on ${cleanText(host)}`;

/** The server keeps the beginning and the end. The worker has the rest, unless the output exceeded its bound too. */
function describeFile(total: OutputSize | undefined, file: LogFile | undefined): string {
  const all = total === undefined ? 'The whole output' : `The whole output, ${sizeOf(total)},`;
  if (file === undefined) return `${all} is on the agent's worker.`;
  const lost = file.lostBytes ?? 0;
  const rest =
    lost === 0
      ? ''
      : `, with its end in ${cleanText(file.path)}.1 and .2; ${lost} bytes in between were not kept`;
  return `${all} is in ${placeOf(file)}${rest}.`;
}
