import { refuseFile } from './refuse-file';

/** Parses JSON; a fault is told with its line and column. */
export function parseJsonText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    return refuseFile('SYNTAX', `the file is not JSON: ${explain((error as Error).message, text)}`);
  }
}

/** The engine tells an offset, or that the text ended; people look for a line. */
function explain(message: string, text: string): string {
  const offset = Number(/at position (\d+)/.exec(message)?.[1] ?? text.length);
  const before = text.slice(0, offset).split('\n');
  const what = message
    .replace(/ in JSON at position .*$/s, '')
    .replace(/, ("|\.\.\.).* is not valid JSON$/s, '');
  return `line ${before.length}, column ${(before.at(-1) as string).length + 1}: ${what}.`;
}
