const MAX_SHOWN = 40;

/** A short, safe form of a value for messages: never more than a line, never a whole list or object. */
export function showValue(value: unknown): string {
  if (typeof value === 'string') return showText(value);
  if (value === undefined) return 'missing';
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** Text in quotes, control characters escaped, cut after 40 characters with its full length. */
function showText(text: string): string {
  if (text.length <= MAX_SHOWN) return JSON.stringify(text);
  return `${JSON.stringify(text.slice(0, MAX_SHOWN))}… (${text.length} characters)`;
}
