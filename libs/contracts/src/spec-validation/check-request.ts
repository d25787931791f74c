import type { z } from 'zod';
import { BelayError, type Problem } from '../errors';
import { checkJson, isPlainObject } from './check-json';
import { ProblemList } from './problem-list';
import { reportIssues } from './report-issues';
import { NameSuggester } from './suggest-name';

/**
 * Checks a request's body by its schema, and by rules beyond it. Fields that are `undefined` are left out of the answer.
 *
 * @throws BelayError `INVALID_REQUEST` with every problem.
 */
export function check(
  schema: z.ZodType,
  raw: unknown,
  fields: readonly string[],
  more?: (raw: Record<string, unknown>, problems: ProblemList) => void,
): unknown {
  const problems = new ProblemList();
  checkJson(raw, problems);
  const parsed = schema.safeParse(raw);
  if (!parsed.success)
    reportIssues(parsed.error.issues, raw, [], problems, new NameSuggester(), () => fields);
  if (isPlainObject(raw)) more?.(raw, problems);
  if (!parsed.success || problems.count > 0) throw invalidRequest(problems.toArray());
  return Object.fromEntries(Object.entries(parsed.data as object).filter(([, value]) => value !== undefined));
}

/** The error of a request that is not valid. */
export function invalidRequest(problems: readonly Problem[]): BelayError {
  const head = problems[0]!;
  const where = head.path === '' ? '' : `${head.path}: `;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  return new BelayError('INVALID_REQUEST', `The request is not valid: ${where}${head.message}${more}`, {
    problems,
  });
}
