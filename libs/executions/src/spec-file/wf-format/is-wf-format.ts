/** Whether a parsed file means to be WfFormat (WfCommons): it has a `workflow` object, which no spec has. */
export function isWfFormat(raw: unknown): boolean {
  if (!isRecord(raw)) return false;
  return isRecord(raw['workflow']) && !Object.hasOwn(raw, 'nodes');
}

/** Whether a value has named fields. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
