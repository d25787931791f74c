import { z } from 'zod';
import { SPEC_LIMITS } from '../spec';
import { showValue } from './show-value';

/*
 * The vocabulary of the schemas. Each field has one `rule`, the end of the sentence "must be …". Whatever is wrong with the
 * value, the message says what would be right and what was found.
 */

/** Zod's argument to a message function: the checked value. */
interface Looked {
  readonly input?: unknown;
}

/** Zod parameters that turn every fault of a field into one sentence with its rule. */
export function says(rule: string): { error: (issue: Looked) => string } {
  return {
    error: ({ input }) =>
      input === undefined ? `is missing; it must be ${rule}.` : `must be ${rule}; it is ${showValue(input)}.`,
  };
}

/** The characters of node ids and pool names: safe in file names, Valkey keys, queue names and URLs. */
export const NAME_PATTERN = /^[A-Za-z0-9_.-]{1,64}$/;
/** Names that a shell can read, too. */
export const ENV_NAME_PATTERN = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** No `=`, `,` or blanks, since selectors have the form `key=value,key=value`. */
export const LABEL_KEY_PATTERN = /^[A-Za-z0-9_][A-Za-z0-9_./-]*$/;
/** A terminal shows names and notes unchanged, so they must not move its cursor. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const NO_CONTROL = /^[^\u0000-\u001f\u007f-\u009f]*$/;
/** An argument or a variable ends at its first NUL, which would cut the text. */
// oxlint-disable-next-line no-control-regex -- NUL is what is looked for
const NO_NUL = /^[^\u0000]*$/;

export const name = (what: string) => {
  const rule = says(`${what} of 1 to 64 of the characters A-Z a-z 0-9 _ . -`);
  return z.string(rule).regex(NAME_PATTERN, rule);
};

/** One line of text for people. */
export const line = (maxLength: number = SPEC_LIMITS.maxTextLength) => {
  const rule = says(`a text of 1 to ${maxLength} characters without control characters`);
  return z.string(rule).min(1, rule).max(maxLength, rule).regex(NO_CONTROL, rule);
};

/** A string for the operating system: an argument, a path. */
export const osString = (what: string) => {
  const rule = says(`${what} of 1 to ${SPEC_LIMITS.maxArgumentLength} characters without NUL`);
  return z.string(rule).min(1, rule).max(SPEC_LIMITS.maxArgumentLength, rule).regex(NO_NUL, rule);
};

const envValue = () => {
  const rule = says(`a string of at most ${SPEC_LIMITS.maxArgumentLength} characters without NUL`);
  return z.string(rule).max(SPEC_LIMITS.maxArgumentLength, rule).regex(NO_NUL, rule);
};

export const wholeNumber = (min: number, max: number, unit = '') => {
  const rule = says(`a whole number${unit} from ${min} to ${max}`);
  return z.number(rule).int(rule).min(min, rule).max(max, rule);
};

export const milliseconds = (min: number, max: number) => wholeNumber(min, max, ' of milliseconds');

export const amount = (rule: string, min: number, max: number) => {
  const sentence = says(`${rule} from ${min} to ${max}`);
  return z.number(sentence).min(min, sentence).max(max, sentence);
};

/** The most dollars of a budget. */
const MAX_USD = 1_000_000_000;

/** A budget in US dollars. */
export const usd = () => amount('a number of US dollars', 0, MAX_USD);

/** The most tokens of a budget. */
const MAX_TOKENS = 1_000_000_000_000;

/** A budget in tokens of language models. */
export const tokens = () => wholeNumber(0, MAX_TOKENS, ' of tokens');

export const flag = () => z.boolean(says('true or false'));

export const oneOf = <const T extends readonly [string, ...string[]]>(words: T) =>
  z.enum(words, says(`${words.slice(0, -1).join(', ')} or ${words.at(-1)}`));

/** A list of 1 to `max` entries. */
export const listOf = <T extends z.ZodType>(entry: T, max: number, rule: string) =>
  z.array(entry, says(rule)).min(1, says(rule)).max(max, says(rule));

export const labels = () => {
  const key = says(
    `named with 1 to ${SPEC_LIMITS.maxTextLength} of the characters A-Z a-z 0-9 _ . / - and not start with . / -`,
  );
  const value = says(
    `a string of at most ${SPEC_LIMITS.maxTextLength} characters without control characters`,
  );
  return entries(
    z.string().max(SPEC_LIMITS.maxTextLength, key).regex(LABEL_KEY_PATTERN, key),
    z.string(value).max(SPEC_LIMITS.maxTextLength, value).regex(NO_CONTROL, value),
    SPEC_LIMITS.maxLabels,
    'labels',
  );
};

export const environment = () => {
  const key = says('named with letters, digits and _, and not start with a digit');
  return entries(
    z.string().regex(ENV_NAME_PATTERN, key),
    envValue(),
    SPEC_LIMITS.maxArguments,
    'environment variables',
  );
};

function entries<K extends z.ZodString, V extends z.ZodType>(key: K, value: V, max: number, what: string) {
  const rule = says(`an object of at most ${max} ${what}`);
  return z
    .record(key, value, rule)
    .refine((record) => Object.keys(record).length <= max, {
      error: ({ input }) =>
        `must be an object of at most ${max} ${what}; it has ${Object.keys(input as object).length}.`,
    })
    .meta({ maxProperties: max });
}
