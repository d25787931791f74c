import { formatRate, parseRate, RATE_RULE, type DefaultRate } from '../access';
import type { UidRange } from '../isolation';
import { formatDuration, parseDuration } from './parse-duration';
import { parseValkeyUrl } from './valkey-url';

/** How one kind of setting parses its text, and its rule: the end of "must be …". */
export interface SettingKind<T> {
  readonly rule: string;
  /** The value, or undefined when the text breaks the rule. */
  readonly parse: (text: string) => T | undefined;
  /** The fault of a text that `parse` refused, without the text itself: for secrets. */
  readonly fault?: (text: string) => string;
  /** The value as one writes it in the environment. */
  readonly format: (value: T) => string;
}

const DIGITS = /^\d{1,15}$/;

export function wholeNumber(min: number, max: number): SettingKind<number> {
  return {
    rule: `a whole number from ${min} to ${max}`,
    parse: (text) => (DIGITS.test(text) ? within(Number(text), min, max) : undefined),
    format: String,
  };
}

export function duration(minMs: number, maxMs: number): SettingKind<number> {
  return {
    rule: `a time from ${formatDuration(minMs)} to ${formatDuration(maxMs)}, written like 500ms, 30s, 5m, 12h, 7d or plain milliseconds`,
    parse: (text) => {
      const ms = parseDuration(text);
      return ms === undefined ? undefined : within(ms, minMs, maxMs);
    },
    format: String,
  };
}

export function oneOf<const T extends readonly string[]>(words: T): SettingKind<T[number]> {
  return {
    rule: `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`,
    parse: (text) => words.find((word) => word === text),
    format: String,
  };
}

/** One of these words, or a former name of one. */
export function oneOfOr<const T extends readonly string[]>(
  words: T,
  earlier: Readonly<Record<string, T[number]>>,
): SettingKind<T[number]> {
  const kind = oneOf(words);
  return { ...kind, parse: (given) => kind.parse(earlier[given] ?? given) };
}

export function text(rule: string, pattern: RegExp): SettingKind<string> {
  return { rule, parse: (value) => (pattern.test(value) ? value : undefined), format: String };
}

/** Names between commas, each once. */
export function names(rule: string, pattern: RegExp): SettingKind<readonly string[]> {
  return {
    rule,
    parse: (value) => {
      const list = value.split(',').map((entry) => entry.trim());
      const good = list.every((entry) => pattern.test(entry)) && new Set(list).size === list.length;
      return good ? list : undefined;
    },
    format: (list) => list.join(','),
  };
}

/** Lower ids are accounts of systems and people; higher ids include numbers that mean "none". */
const LEAST_UID = 1_000;
const LAST_UID = 2_147_483_647;
const MOST_UIDS = 65_536;
/** "nobody", and the value of a 16-bit -1. */
const NOBODY = [65_534, 65_535];

/** `70000-70999`. */
export const uidRange: SettingKind<UidRange> = {
  rule: `two user ids with a dash between, such as 70000-70999: from ${LEAST_UID} to ${LAST_UID}, at most ${MOST_UIDS} of them, not ${NOBODY.join(' and ')}`,
  parse: (value) => {
    const [, from = '', to = ''] = /^(\d{1,10})-(\d{1,10})$/.exec(value) ?? [];
    const [first, last] = [Number(from), Number(to)];
    const isGood =
      first >= LEAST_UID &&
      first <= last &&
      last <= LAST_UID &&
      last - first < MOST_UIDS &&
      !NOBODY.some((uid) => uid >= first && uid <= last);
    return isGood ? { first, last } : undefined;
  },
  format: ({ first, last }) => `${first}-${last}`,
};

/** `off`, `50` or `50:200`. */
export const requestRate: SettingKind<DefaultRate> = {
  rule: `off, or ${RATE_RULE}`,
  parse: (value) => (value === 'off' ? value : parseRate(value)),
  format: (rate) => (rate === 'off' ? rate : formatRate(rate)),
};

export const valkeyUrl: SettingKind<string> = {
  rule: 'a URL such as redis://127.0.0.1:6379/0, unix:///path, redis+sentinel://h1:26379,h2:26379/mymaster or redis+cluster://h1:7000,h2:7001, with rediss for TLS',
  parse: (value) => (typeof parseValkeyUrl(value) === 'string' ? undefined : value),
  fault: (value) => parseValkeyUrl(value) as string,
  format: String,
};

const within = (value: number, min: number, max: number): number | undefined =>
  value >= min && value <= max ? value : undefined;
