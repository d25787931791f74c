import { type ExecutionSpec } from '../spec';

/**
 * A spec as JSON with the keys of every object in one order: two specs are the same exactly when these strings
 * are equal. What idempotency keys are compared by (R30). Lists keep their order, absent fields stay absent.
 */
export function canonicalSpec(spec: ExecutionSpec): string {
  return canonicalJson(spec);
}

/** Any JSON value in that form; nesting is bounded, as only validated values come here. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`);
  return `{${fields.join(',')}}`;
}
