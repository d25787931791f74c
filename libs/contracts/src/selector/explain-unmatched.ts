import { NameSuggester } from '../spec-validation/suggest-name';
import type { Requirement } from './parse-requirement';
import { formatSelector, selectorMatches, type Selector } from './selector';

type Labels = Readonly<Record<string, string>>;

/** A warning beside an answer: the request succeeded, but may not do what its caller intended. */
export interface ScopeWarning {
  readonly code: 'NOTHING_MATCHED';
  /** Complete sentences for people. */
  readonly message: string;
  /** Known labels, or a known pool, near the given ones. */
  readonly suggestion?: string;
}

/** The most known names that a message lists. */
const MOST_TOLD = 10;

/** The warning that no known set of labels meets a selector, with the selector that may be meant; undefined when one does. */
export function explainUnmatched(selector: Selector, known: readonly Labels[]): ScopeWarning | undefined {
  if (known.some((labels) => selectorMatches(selector, labels))) return undefined;
  const values = valuesByKey(known);
  const head = `No agent and no execution has labels that meet ${formatSelector(selector)}.`;
  const say = (hint: string): ScopeWarning => ({ code: 'NOTHING_MATCHED', message: `${head} ${hint}` });
  if (values.size === 0) return say('No label is known.');
  const suggester = new NameSuggester();
  const meant: Requirement[] = [];
  for (const requirement of selector) {
    const near = nearest(requirement, values, suggester);
    if (typeof near === 'string') return say(near);
    meant.push(near);
  }
  const suggestion = formatSelector(meant);
  if (suggestion === formatSelector(selector))
    return say('Each of these labels is known, but nothing has all of them.');
  return { ...say(`Did you mean ${suggestion}?`), suggestion };
}

function valuesByKey(known: readonly Labels[]): Map<string, Set<string>> {
  const values = new Map<string, Set<string>>();
  for (const labels of known)
    for (const [key, value] of Object.entries(labels))
      values.set(key, (values.get(key) ?? new Set()).add(value));
  return values;
}

/** The condition with known names; or, where no name is near, a sentence that lists the known ones. */
function nearest(
  requirement: Requirement,
  values: ReadonlyMap<string, ReadonlySet<string>>,
  suggester: NameSuggester,
): Requirement | string {
  const { op } = requirement;
  // A label that must be absent may be unknown.
  if (op === 'absent' || op === 'notin') return requirement;
  const key = values.has(requirement.key)
    ? requirement.key
    : suggester.nearest(requirement.key, values.keys());
  const found = key === undefined ? undefined : values.get(key);
  if (key === undefined || found === undefined) return `Known labels: ${list(values.keys())}.`;
  if (op === 'exists') return { ...requirement, key };
  const meant = requirement.values.flatMap((value) =>
    found.has(value) ? value : (suggester.nearest(value, found) ?? []),
  );
  if (meant.length === 0) return `Known values of ${key}: ${list(found)}.`;
  return { ...requirement, key, values: [...new Set(meant)] };
}

function list(names: Iterable<string>): string {
  const all = [...names].sort();
  const more = all.length > MOST_TOLD ? `, and ${all.length - MOST_TOLD} more` : '';
  return all.slice(0, MOST_TOLD).join(', ') + more;
}
