import { refuseFile } from './refuse-file';

/** Parses JSON; a fault names its line and column. */
export function parseJsonText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    return refuseFile('SYNTAX', `the file is not JSON: ${explain((error as Error).message, text)}`);
  }
}

/**
 * The engine reports an offset, or that the text ended, while people look for a line. Or it quotes the text around the fault,
 * which a search finds.
 */
function explain(message: string, text: string): string {
  const position = /^(.*) in JSON at position (\d+)/s.exec(message);
  const offset = position === null ? text.length : Number(position[2]);
  if (position === null && !message.startsWith('Unexpected end')) return `${message}.`;
  const before = text.slice(0, offset).split('\n');
  return `line ${before.length}, column ${before.at(-1)!.length + 1}: ${position?.[1] ?? message}.`;
}
