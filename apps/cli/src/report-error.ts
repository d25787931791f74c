import { isBelayError, type BelayError } from '#libs/contracts';
import { UsageError } from './exit-codes';
import type { CliProcess } from './session/cli-process';
import { cleanText } from './text/clean-text';
import { listProblems } from './text/list-problems';

/** Says on stderr what went wrong; as one JSON object under --json, so that stdout stays empty. */
export function reportError(
  cli: CliProcess,
  error: unknown,
  isJson: boolean,
  tokenFrom: () => string | undefined = () => undefined,
): void {
  if (isJson) {
    cli.stderr.write(`${JSON.stringify({ error: toJson(error) })}\n`);
  } else {
    for (const line of toLines(error, tokenFrom)) cli.stderr.write(`${line}\n`);
  }
  if (cli.env['BELAY_LOG_LEVEL'] === 'debug') cli.stderr.write(`${stackOf(error)}\n`);
}

function toLines(error: unknown, tokenFrom: () => string | undefined): string[] {
  if (isBelayError(error)) {
    const lines = [`belay: ${cleanText(headOf(error))}`];
    lines.push(...listProblems(error.problems).map((line) => `  ${line}`));
    const from = error.code === 'UNAUTHORIZED' ? tokenFrom() : undefined;
    if (from !== undefined) lines.push(`  the token came from ${from}`);
    return lines;
  }
  if (error instanceof UsageError) return [`belay: ${error.message}`];
  const message = error instanceof Error ? error.message : String(error);
  return [`belay: ${cleanText(message)}`, '  for the whole story: BELAY_LOG_LEVEL=debug'];
}

/** The message without the problems it quotes: the list below it is whole, and aligned. */
function headOf({ message, problems }: BelayError): string {
  const [first] = problems;
  if (first === undefined) return message;
  const quoted = first.path === '' ? first.message : first.path;
  const at = message.indexOf(quoted);
  const head = at > 0 ? message.slice(0, at) : message;
  return `${head.trimEnd().replace(/[.:]$/, '')}:`;
}

function toJson(error: unknown): unknown {
  if (isBelayError(error)) {
    const { code, message, problems, details } = error;
    return { code, message, ...(problems.length > 0 ? { problems } : {}), details };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof UsageError ? 'USAGE' : 'INTERNAL', message };
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause)}`;
  return (error.stack ?? error.message) + cause;
}
