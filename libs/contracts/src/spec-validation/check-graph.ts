import { isPlainObject } from './check-json';
import { cycleThroughFirst, findKnots } from './find-cycles';
import { NAME_PATTERN } from './fields';
import { type ProblemList } from './problem-list';
import { showValue } from './show-value';
import { type NameSuggester } from './suggest-name';

/** A shown cycle with more ids than this has its middle cut out. */
const MAX_CYCLE_SHOWN = 100;
/** Nodes and edges read before other work gets a turn. */
const STEP = 10_000;

/**
 * The rules between nodes: unique ids, dependencies that exist, no node that depends on itself, no repeated dependency, no
 * cycle. It reads the spec as submitted, valid or not, so that one broken field hides no broken edge. Linear, and in steps.
 */
export function* checkGraph(
  nodes: readonly unknown[],
  problems: ProblemList,
  suggester: NameSuggester,
): Generator<undefined, void> {
  const ids = nodes.map(idOf);
  yield;
  const indexOf = yield* indexIds(ids, problems);
  const edges: number[][] = [];
  while (readEdges()) yield;
  for (const knot of yield* findKnots(edges)) {
    problems.add(['nodes', knot[0]!, 'dependsOn'], 'CYCLE', () => describeCycle(edges, knot, ids));
  }

  /** One step, in a plain function, since V8 does not optimise a running loop of a generator. False: all edges are read. */
  function readEdges(): boolean {
    // By index: this visits every place of a list with holes.
    for (let left = STEP; left > 0 && edges.length < nodes.length;) {
      const index = edges.length;
      const node = nodes[index];
      const dependsOn = isPlainObject(node) ? node['dependsOn'] : undefined;
      edges.push(Array.isArray(dependsOn) ? edgesOf(index, dependsOn) : []);
      left -= 1 + edges[index]!.length;
    }
    return edges.length < nodes.length;
  }

  function edgesOf(index: number, dependsOn: readonly unknown[]): number[] {
    const found: number[] = [];
    const seen = new Map<string, number>();
    dependsOn.forEach((id, position) => {
      if (typeof id !== 'string') return;
      const path = ['nodes', index, 'dependsOn', position];
      const before = seen.get(id);
      if (before !== undefined) {
        problems.add(
          path,
          'DUPLICATE_DEPENDENCY',
          () => `${showValue(id)} is already at dependsOn[${before}]; name it once.`,
        );
        return;
      }
      seen.set(id, position);
      const target = indexOf.get(id);
      if (id === ids[index]) {
        problems.add(path, 'SELF_DEPENDENCY', () => `${showValue(id)} depends on itself; remove it.`);
      } else if (target === undefined) {
        problems.add(path, 'UNKNOWN_NODE', () => describeUnknown(id));
      } else {
        found.push(target);
      }
    });
    return found;
  }

  function describeUnknown(id: string): string {
    const near = suggester.nearest(id, indexOf.keys());
    const hint = near === undefined ? 'name one of the nodes.' : `did you mean ${showValue(near)}?`;
    return `there is no node ${showValue(id)}; ${hint}`;
  }
}

function idOf(node: unknown): string | undefined {
  const id = isPlainObject(node) ? node['id'] : undefined;
  return typeof id === 'string' ? id : undefined;
}

function* indexIds(
  ids: readonly (string | undefined)[],
  problems: ProblemList,
): Generator<undefined, Map<string, number>> {
  const indexOf = new Map<string, number>();
  for (let from = 0; from < ids.length; from += STEP) {
    if (from > 0) yield;
    ids.slice(from, from + STEP).forEach((id, at) => indexOne(id, from + at));
  }
  return indexOf;

  function indexOne(id: string | undefined, index: number): void {
    if (id === undefined) return;
    const first = indexOf.get(id);
    if (first === undefined) indexOf.set(id, index);
    else
      problems.add(
        ['nodes', index, 'id'],
        'DUPLICATE_ID',
        () => `nodes[${first}] has the id ${showValue(id)} already; give each node its own.`,
      );
  }
}

function describeCycle(
  edges: readonly (readonly number[])[],
  knot: readonly number[],
  ids: readonly (string | undefined)[],
): string {
  const cycle = cycleThroughFirst(edges, knot).map((index) => showId(ids[index] as string));
  const names = [...cycle, cycle[0]!];
  const cut = names.length - MAX_CYCLE_SHOWN;
  if (cut > 0) names.splice(MAX_CYCLE_SHOWN / 2, cut, `… ${cut} more …`);
  return `nodes wait for each other: ${names.join(' → ')} (→ reads "depends on"); remove one of these dependencies.`;
}

/** Ids are shown without quotes. A text that is no id is quoted, so that no control character reaches a terminal. */
const showId = (id: string): string => (NAME_PATTERN.test(id) ? id : showValue(id));
