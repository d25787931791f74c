import { z } from 'zod';
import { BelayError, type Problem } from '../errors';
import { checkJson, isPlainObject } from './check-json';
import { says } from './fields';
import { ProblemList } from './problem-list';
import { reportIssues } from './report-issues';
import { NameSuggester } from './suggest-name';

/** The output of a schema, with optional fields that are absent and never `undefined`. Read-only. */
type Exact<T> = T extends readonly (infer Entry)[]
  ? readonly Exact<Entry>[]
  : T extends object
    ? { readonly [Key in keyof T]: Exact<Exclude<T[Key], undefined>> }
    : T;

interface ShapeOptions {
  /** An absent body counts as an empty one. */
  readonly orNothing?: boolean;
  /** Names of nested fields, for "did you mean". */
  readonly inner?: readonly string[];
  /** Rules beyond the fields. */
  readonly more?: (raw: Record<string, unknown>, problems: ProblemList) => void;
}

/** Checks a body and returns it without fields that are `undefined`. */
export interface Shape<Fields extends z.ZodRawShape> {
  /** @throws BelayError `INVALID_REQUEST` with every problem. */
  (raw?: unknown): Exact<z.output<z.ZodObject<Fields>>>;
  /** The fields, for the OpenAPI document. */
  readonly schema: z.ZodObject<Fields, z.core.$strict>;
}

/**
 * One shape of a request: makes the function that checks a body and returns it without fields that are `undefined`. The type of
 * the body is the function's.
 *
 * @throws BelayError `INVALID_REQUEST` with every problem.
 */
export function shape<Fields extends z.ZodRawShape>(
  fields: Fields,
  rule: string,
  { orNothing = false, inner = [], more }: ShapeOptions = {},
): Shape<Fields> {
  const schema = z.strictObject(fields, says(rule));
  const known = [...Object.keys(fields), ...inner];
  const check = (given?: unknown): Exact<z.output<z.ZodObject<Fields>>> => {
    const raw = orNothing ? (given ?? {}) : given;
    const problems = new ProblemList();
    checkJson(raw, problems);
    const parsed = schema.safeParse(raw);
    if (!parsed.success)
      reportIssues(parsed.error.issues, raw, [], problems, new NameSuggester(), () => known);
    if (isPlainObject(raw)) more?.(raw, problems);
    if (!parsed.success || problems.count > 0) throw invalidRequest(problems.toArray());
    return Object.fromEntries(
      Object.entries(parsed.data).filter(([, value]) => value !== undefined),
    ) as Exact<z.output<z.ZodObject<Fields>>>;
  };
  return Object.assign(check, { schema });
}

/** The error of an invalid request. */
export function invalidRequest(problems: readonly Problem[]): BelayError {
  const head = problems[0]!;
  const where = head.path === '' ? '' : `${head.path}: `;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  return new BelayError('INVALID_REQUEST', `The request is not valid: ${where}${head.message}${more}`, {
    problems,
  });
}
