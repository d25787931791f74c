import { InvalidArgumentError } from 'commander';

/** `k=v`, repeatable. */
export function collectLabel(
  text: string,
  labels: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError(`"${text}" is not a label such as team=data.`);
  return { ...labels, [text.slice(0, at)]: text.slice(at + 1) };
}

/** Any text, repeatable. */
export function collectText(text: string, texts: readonly string[] = []): string[] {
  return [...texts, text];
}

/** One of `known`, or several joined by commas. */
export function listOf<T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((part) => {
      const found = known.find((name) => name === part.trim());
      if (found === undefined)
        throw new InvalidArgumentError(`"${part.trim()}" is not one of ${known.join(', ')}.`);
      return found;
    });
}

/** A whole number from `min` to `max`. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`"${text}" is not a whole number from ${min} to ${max}.`);
    return value;
  };
}

/** A number above 0. */
export function positiveNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0)
    throw new InvalidArgumentError(`"${text}" is not a number above 0.`);
  return value;
}
