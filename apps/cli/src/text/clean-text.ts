/* eslint-disable no-control-regex -- control characters are what these patterns are about */

/** Every control character but the tab, and the C1 set. */
const CONTROLS = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g;
/** Invisible characters, and characters that reverse the visible order: with them one name would look like another. */
const HIDDEN = /[\u200b\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;
/** Escape sequences that only set colours: they are harmless, and programs print them. */
const COLOUR = /\u001b\[[0-9;]*m/g;

/** One line of foreign text (a name, a note, an error) that cannot move the cursor or forge a line. */
export function cleanText(text: string): string {
  return text
    .replaceAll(/\s*[\r\n]+\s*/g, ' ')
    .replaceAll(CONTROLS, '')
    .replaceAll(HIDDEN, (char) => `<U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}>`);
}

/** A line of an agent's log, for a terminal: keeps colours, removes sequences that move the cursor or set the title. */
export function cleanLogLine(line: string): string {
  const colours = line.match(COLOUR) ?? [];
  const rest = line.split(COLOUR).map((piece) => piece.replaceAll(CONTROLS, ''));
  const text = rest.map((piece, index) => piece + (colours[index] ?? '')).join('');
  return colours.length === 0 ? text : `${text}\u001b[0m`;
}

/** The text without colour sequences. */
export function withoutColour(text: string): string {
  return text.replaceAll(COLOUR, '');
}
