import { cleanText } from '../text/clean-text';

/** A line of a program's log as text: the message of a JSON line and of its error, otherwise the line itself. */
export function describeLogLine(line: string): string {
  const entry = parseEntry(line);
  const message = textOf(entry?.['msg']);
  if (entry === undefined || message === undefined) return cleanText(line);
  const error = entry['err'];
  const why =
    typeof error === 'object' && error !== null ? (error as Record<string, unknown>)['message'] : error;
  const said = textOf(why);
  return cleanText(said === undefined || message.includes(said) ? message : `${message}: ${said}`);
}

/** Whether a line names another worker as its writer: workers may share a log. */
export function isOfAnother(line: string, workerId: string | undefined): boolean {
  const wrote = textOf(parseEntry(line)?.['workerId']);
  return workerId !== undefined && wrote !== undefined && wrote !== workerId;
}

function parseEntry(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
