import { isBelayError, type BelayError } from '#libs/contracts';
import { UsageError } from './exit-codes';
import type { CliProcess } from './session/cli-process';
import { DEFAULT_URL, type Connection, type GlobalOptions } from './session/find-connection';
import { keepFlags } from './session/keep-flags';
import { cleanText } from './text/clean-text';
import { listProblems } from './text/list-problems';

/** The known facts of a failed command. */
export interface ErrorContext {
  readonly isJson: boolean;
  readonly options?: GlobalOptions;
  /** Looked up only for an error about the connection. */
  readonly connection?: () => Connection | undefined;
}

/** Prints an error on stderr; with --json as one JSON object, so that stdout stays empty. */
export function reportError(cli: CliProcess, error: unknown, context: ErrorContext): void {
  if (context.isJson) {
    cli.stderr.write(`${JSON.stringify({ error: toJson(error, context) })}\n`);
  } else {
    for (const line of toLines(error, context))
      cli.stderr.write(`${keepFlags(line, context.options ?? {})}\n`);
  }
  if (cli.env['BELAY_LOG_LEVEL'] === 'debug') cli.stderr.write(`${stackOf(error)}\n`);
}

function toLines(error: unknown, context: ErrorContext): string[] {
  if (isBelayError(error)) {
    const lines = [`belay: ${cleanText(headOf(error))}`];
    lines.push(...listProblems(error.problems).map((line) => `  ${line}`));
    const asked = whoWasAsked(error, context);
    // The message about an address that does not answer names the address already.
    const isNamed = asked !== undefined && error.message.includes(asked.url);
    if (isNamed) lines.push(`  the address is ${asked.urlFrom}`);
    else if (asked !== undefined) lines.push(`  the address asked is ${asked.url} (${asked.urlFrom})`);
    if (asked !== undefined && isAboutToken(error)) lines.push(`  the token came from ${asked.tokenFrom}`);
    return lines;
  }
  if (error instanceof UsageError) return [`belay: ${error.message}`];
  const message = error instanceof Error ? error.message : String(error);
  return [`belay: ${cleanText(message)}`, '  for details: BELAY_LOG_LEVEL=debug'];
}

/** The token was refused. */
function isAboutToken({ code }: Pick<BelayError, 'code'>): boolean {
  return code === 'UNAUTHORIZED' || code === 'FORBIDDEN';
}

/** The server that gave this answer, or none, and the source of its address. */
function whoWasAsked(
  { code, details }: BelayError,
  { connection }: ErrorContext,
): Pick<Connection, 'url' | 'urlFrom' | 'tokenFrom'> | undefined {
  const isAbout = isAboutToken({ code }) || code === 'SERVER_UNREACHABLE' || code === 'SERVER_REFUSED';
  // Without either of them no orchestrator was asked, but the state server at a start.
  if (!isAbout || (details['url'] === undefined && details['status'] === undefined)) return undefined;
  const found = connection?.();
  if (found === undefined) return undefined;
  const { url, urlFrom, tokenFrom, dataDir } = found;
  const isDefault = url === DEFAULT_URL && urlFrom === 'the default';
  const from = isDefault ? `the default: ${dataDir.orchestrator} is not there` : `from ${urlFrom}`;
  return { url, urlFrom: from, tokenFrom };
}

/** The message without its list of problems, since a complete and aligned list follows. */
function headOf({ message, problems }: BelayError): string {
  const [first] = problems;
  if (first === undefined) return message;
  const quoted = first.path === '' ? first.message : first.path;
  const at = message.indexOf(quoted);
  const head = at > 0 ? message.slice(0, at) : message;
  return `${head.trimEnd().replace(/[.:]$/, '')}:`;
}

function toJson(error: unknown, context: ErrorContext): unknown {
  const hint = (text: string): string => keepFlags(text, context.options ?? {});
  if (isBelayError(error)) {
    const { code, message, problems, details } = error;
    const asked = whoWasAsked(error, context);
    return {
      code,
      message: hint(message),
      ...(problems.length > 0 ? { problems } : {}),
      details: { ...details, ...asked },
    };
  }
  const message = hint(error instanceof Error ? error.message : String(error));
  return { code: error instanceof UsageError ? 'USAGE' : 'INTERNAL', message };
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause)}`;
  return (error.stack ?? error.message) + cause;
}
