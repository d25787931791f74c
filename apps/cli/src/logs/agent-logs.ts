import type { LogEnd } from '#libs/client';
import type { AgentLogs, LogLine, OutputSize } from '#libs/contracts';
import { EXIT, type ExitCode } from '../exit-codes';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { describeFile, LinePrinter } from './line-printer';

/** The last lines of an output; all of them without a number. */
export function lastOf(lines: readonly LogLine[], tail: number | undefined): readonly LogLine[] {
  if (tail === undefined) return lines;
  if (tail === 0) return [];
  // A line may come in pieces, all but the last of which are marked.
  let left = tail;
  let from = lines.length;
  while (from > 0 && (left > 0 || lines[from - 1]?.partial === true)) {
    from -= 1;
    if (lines[from]?.partial !== true || from === lines.length - 1) left -= 1;
  }
  return lines.slice(from);
}

/** Prints what an agent has written so far. @param tail only so many of the last lines */
export async function printAgent(session: Session, agentId: string, tail?: number): Promise<void> {
  const logs = await session.client.logs(agentId);
  const lines = lastOf(logs.lines, tail);
  if (session.isJson) return session.json({ ...logs, lines });
  const printer = new LinePrinter(session);
  for (const line of lines) printer.print(line, logs.file);
  printer.end();
  if (tail === undefined) tellMissing(session, printer, logs);
}

/** Lines missing after the last one have no later line that could report them. */
function tellMissing(
  session: Session,
  printer: LinePrinter,
  { lines, skipped, file, total }: AgentLogs,
): void {
  const told = (of: keyof OutputSize): number =>
    lines.reduce((sum, line) => sum + (line.skipped?.[of] ?? 0), 0);
  if (skipped.lines > told('lines'))
    printer.gap({ lines: skipped.lines - told('lines'), bytes: skipped.bytes - told('bytes') }, file);
  if (skipped.lines > 0) session.note(describeFile(total, file));
}

/** Prints what an agent writes until it ends. @param tail only so many of the lines that it has written before */
export async function followAgent(session: Session, agentId: string, tail?: number): Promise<ExitCode> {
  const ending = abortOnSignal(session.process);
  const printer = new LinePrinter(session);
  let last: LogEnd | undefined;
  try {
    const before = tail === undefined ? undefined : await session.client.logs(agentId);
    const shown = lastOf(before?.lines ?? [], tail);
    for (const line of shown) printer.print(line, before?.file);
    const lastEventId = before?.lines.at(-1)?.id;
    for await (const line of session.client.logs(agentId, {
      follow: true,
      signal: ending.signal,
      ...(lastEventId === undefined ? {} : { lastEventId }),
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
