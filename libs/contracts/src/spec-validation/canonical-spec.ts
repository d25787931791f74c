import { type ExecutionSpec } from '../spec';

/**
 * A spec as JSON with the keys of every object in one order: two specs are the same exactly when these strings are equal.
 * Idempotency keys are compared with it. Lists keep their order, absent fields stay absent.
 */
export function canonicalSpec(spec: ExecutionSpec): string {
  return canonicalJson(spec);
}

/** Nodes written in one step. */
const STEP = 500;

/** The same text, a few hundred nodes at a time; it awaits `turn` in between. */
export async function canonicalSpecInTurns(spec: ExecutionSpec, turn: () => Promise<void>): Promise<string> {
  const nodes: string[] = [];
  for (let at = 0; at < spec.nodes.length; at += STEP) {
    if (at > 0) await turn();
    nodes.push(
      spec.nodes
        .slice(at, at + STEP)
        .map(canonicalJson)
        .join(','),
    );
  }
  const fields = Object.entries({ ...spec, nodes: undefined })
    .filter(([, field]) => field !== undefined)
    .map(([key, field]): [string, string] => [key, canonicalJson(field)]);
  const all: [string, string][] = [...fields, ['nodes', `[${nodes.join(',')}]`]];
  return `{${all
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, text]) => `${JSON.stringify(key)}:${text}`)
    .join(',')}}`;
}

/** Any JSON value in that form. Its nesting is bounded, since only validated values come here. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`);
  return `{${fields.join(',')}}`;
}
