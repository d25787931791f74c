import type { ProblemCode } from '../spec-validation/problem-codes';
import { parseRequirement, type Requirement } from './parse-requirement';

/** Conditions that must all be met. */
export type Selector = readonly Requirement[];

/** A selector with more conditions would be a program. */
const MAX_REQUIREMENTS = 50;

export type ParsedSelector =
  | { readonly selector: Selector; readonly problems?: undefined }
  | { readonly selector?: undefined; readonly problems: readonly SelectorProblem[] };

/** One fault: the rule, and a sentence. */
export interface SelectorProblem {
  readonly code: ProblemCode;
  readonly message: string;
}

/**
 * Reads `team=data,env!=prod,model in (a,b),!draft`: conditions with commas between them, all of which must be met.
 * `key=value`, `key!=value`, `key in (…)`, `key notin (…)`, `key`, `!key`. A value with characters other than letters, digits
 * and `_ . / : @ + -` must be in double quotes, as in JSON. Reports every fault at once.
 */
export function parseSelector(text: string): ParsedSelector {
  const parts = splitAtCommas(text);
  const problems: SelectorProblem[] = [];
  if (text.trim() === '')
    problems.push({
      code: 'REQUIRED',
      message: 'is empty, which would cover everything; for that use the scope all.',
    });
  else if (parts.length > MAX_REQUIREMENTS)
    problems.push({
      code: 'LENGTH',
      message: `has ${parts.length} conditions; at most ${MAX_REQUIREMENTS} are read.`,
    });
  if (problems.length > 0) return { problems };
  const selector: Requirement[] = [];
  for (const part of parts) {
    const read = parseRequirement(part.trim());
    if (typeof read === 'string') problems.push({ code: 'PATTERN', message: read });
    else selector.push(read);
  }
  return problems.length > 0 ? { problems } : { selector };
}

/** Whether labels meet every condition. */
export function selectorMatches(selector: Selector, labels: Readonly<Record<string, string>>): boolean {
  return selector.every((requirement) => {
    const value = Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined;
    switch (requirement.op) {
      case 'exists':
        return value !== undefined;
      case 'absent':
        return value === undefined;
      case 'in':
        return value !== undefined && requirement.values.includes(value);
      case 'notin':
        return value === undefined || !requirement.values.includes(value);
    }
  });
}

/** The canonical text of a selector: two with the same meaning in the same order have the same text. */
export function formatSelector(selector: Selector): string {
  return selector
    .map((requirement) => {
      const { key } = requirement;
      if (requirement.op === 'exists') return key;
      if (requirement.op === 'absent') return `!${key}`;
      const values = requirement.values.map(quoteValue);
      if (values.length === 1) return `${key}${requirement.op === 'in' ? '=' : '!='}${values[0]}`;
      return `${key} ${requirement.op} (${values.join(',')})`;
    })
    .join(',');
}

const BARE_VALUE = /^[A-Za-z0-9_./:@+-]+$/;

function quoteValue(value: string): string {
  return BARE_VALUE.test(value) ? value : JSON.stringify(value);
}

/** Splits at the commas between conditions; commas in brackets or quotes belong to a condition. */
function splitAtCommas(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quoted = false;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted && char === '\\') i++;
    else if (char === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (char === '(') depth++;
    else if (char === ')') depth--;
    else if (char === ',' && depth <= 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  return [...parts, text.slice(start)];
}
