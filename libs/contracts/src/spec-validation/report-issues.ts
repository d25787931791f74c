import type { z } from 'zod';
import { isPlainObject, isSpecialName } from './check-json';
import { type ProblemCode } from './problem-codes';
import { type Path, type ProblemList } from './problem-list';
import { type NameSuggester } from './suggest-name';

type Issue = z.core.$ZodIssue;

const CODES: Readonly<Record<Issue['code'], ProblemCode>> = {
  invalid_type: 'TYPE',
  invalid_value: 'ONE_OF',
  invalid_union: 'ONE_OF',
  invalid_format: 'PATTERN',
  invalid_key: 'PATTERN',
  invalid_element: 'TYPE',
  unrecognized_keys: 'UNKNOWN_FIELD',
  too_small: 'LENGTH',
  too_big: 'LENGTH',
  not_multiple_of: 'RANGE',
  custom: 'LENGTH',
};

/** The fields that an object at a path may have, for suggestions. */
export type FieldsAt = (path: Path) => readonly string[];

/**
 * Turns zod's findings in `raw` into problems under `base`. Two breaks of one rule on one value (too long and wrong characters)
 * are one problem, since its sentence already says what would be right.
 */
export function reportIssues(
  issues: readonly Issue[],
  raw: unknown,
  base: Path,
  problems: ProblemList,
  suggester: NameSuggester,
  fieldsAt: FieldsAt,
): void {
  let last: string | undefined;
  for (const issue of issues) {
    const path = issue.path as (string | number)[];
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) reportUnknownField(key, path);
      continue;
    }
    const mark = path.join('\u0000');
    if (mark === last) continue;
    last = mark;
    reportOne(issue, path);
  }

  function reportUnknownField(key: string, path: Path): void {
    // The walk over the whole document has reported special names.
    if (isSpecialName(key)) return;
    const full = [...base, ...path, key];
    problems.add(full, 'UNKNOWN_FIELD', () => {
      const known = fieldsAt([...base, ...path]);
      const near = suggester.nearest(key, known);
      if (near !== undefined) return `unknown field; did you mean ${near}?`;
      return `unknown field; known here: ${known.join(', ')}.`;
    });
  }

  function reportOne(issue: Issue, path: Path): void {
    const full = [...base, ...path];
    problems.add(full, codeOf(issue, valueAt(raw, path)), messageOf(issue));
  }
}

function codeOf(issue: Issue, value: unknown): ProblemCode {
  // For a bad key, look at the key: its value may be anything.
  if (issue.code === 'invalid_key') return CODES.invalid_key;
  if (value === undefined) return 'REQUIRED';
  if (typeof value !== 'number') return CODES[issue.code];
  // To zod a fraction in the place of a whole number is an `invalid_type`; to people it is a wrong number.
  const isFraction = issue.code === 'invalid_type' && issue.expected === 'int';
  return isFraction || issue.code === 'too_small' || issue.code === 'too_big' ? 'RANGE' : CODES[issue.code];
}

/** The message of a bad key comes from the rule for keys. */
function messageOf(issue: Issue): string {
  if (issue.code !== 'invalid_key') return issue.message;
  return issue.issues[0]!.message;
}

function valueAt(raw: unknown, path: Path): unknown {
  let value = raw;
  for (const part of path) {
    if (Array.isArray(value)) value = value[part as number];
    else if (isPlainObject(value) && Object.hasOwn(value, part)) value = value[part];
    else return undefined;
  }
  return value;
}
