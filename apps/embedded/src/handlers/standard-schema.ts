/** The part of the Standard Schema (standardschema.dev) that Belay uses; zod 4, valibot and arktype have it. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    validate(value: unknown): SchemaResult<Output> | Promise<SchemaResult<Output>>;
  };
}

type SchemaResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };

interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** At most this many issues are reported. */
const MOST_ISSUES = 10;

/** The value as the schema returns it, or the problems in one sentence. Without a schema every value is accepted. */
export async function checkAgainst<T>(
  schema: StandardSchema<T> | undefined,
  value: unknown,
): Promise<{ readonly value: T; readonly problem?: undefined } | { readonly problem: string }> {
  if (schema === undefined) return { value: value as T };
  const result = await schema['~standard'].validate(value);
  if (result.issues === undefined) return { value: result.value };
  const told = result.issues.slice(0, MOST_ISSUES).map(describe);
  const more = result.issues.length - told.length;
  return { problem: told.join('; ') + (more > 0 ? `; and ${more} more` : '') };
}

function describe({ message, path = [] }: SchemaIssue): string {
  const at = path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
  return at === '' ? message : `${at}: ${message}`;
}
