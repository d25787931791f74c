/** A value of a query; undefined ones are left out. */
export type QueryValue = string | number | boolean | readonly string[] | undefined;

/** `?a=1&label=k%3Dv`, or nothing. Lists are joined by commas; `labels` become one `label=k=v` each. */
export function buildQuery(
  values: Readonly<Record<string, QueryValue>>,
  labels: Readonly<Record<string, string>> = {},
): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) continue;
    const text = Array.isArray(value) ? value.join(',') : String(value);
    if (text !== '') query.append(name, text);
  }
  for (const [name, value] of Object.entries(labels)) query.append('label', `${name}=${value}`);
  const text = query.toString();
  return text === '' ? '' : `?${text}`;
}
