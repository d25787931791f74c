import fc from 'fast-check';
import { type Problem } from '../errors';
import { cycleThroughFirst, findKnots } from './find-cycles';
import { checkSpec } from './validate-spec';

type Edges = Readonly<Record<string, readonly string[]>>;

const specOf = (edges: Edges) => ({
  name: 'graph',
  nodes: Object.entries(edges).map(([id, dependsOn]) => ({ id, dependsOn, run: { command: ['true'] } })),
});

function problemsOf(raw: unknown): readonly Problem[] {
  const result = checkSpec(raw);
  return result.ok ? [] : result.problems;
}

const told = (edges: Edges): string[] =>
  problemsOf(specOf(edges)).map(({ path, code, message }) => `${path} ${code} ${message}`);

const waiting = (cycle: string) =>
  `CYCLE nodes wait for each other: ${cycle} (→ reads "depends on"); remove one of these dependencies.`;

describe('dependencies', () => {
  it('on no node are told with the nearest id', () => {
    expect(told({ fetch: [], sum: ['fetcg', 'zzz'] })).toEqual([
      'nodes[1].dependsOn[0] UNKNOWN_NODE there is no node "fetcg"; did you mean "fetch"?',
      'nodes[1].dependsOn[1] UNKNOWN_NODE there is no node "zzz"; name one of the nodes.',
    ]);
  });

  it('on itself, and twice on one', () => {
    expect(told({ a: ['a'], b: ['a', 'a'] })).toEqual([
      'nodes[0].dependsOn[0] SELF_DEPENDENCY "a" depends on itself; remove it.',
      'nodes[1].dependsOn[1] DUPLICATE_DEPENDENCY "a" is already at dependsOn[0]; name it once.',
    ]);
  });

  it('names like those of every object are names like any other', () => {
    expect(told({ toString: [], valueOf: ['toString'], a: ['hasOwnProperty'] })).toEqual([
      'nodes[2].dependsOn[0] UNKNOWN_NODE there is no node "hasOwnProperty"; name one of the nodes.',
    ]);
  });
});

describe('ids', () => {
  it('used twice are told with both places', () => {
    const run = { command: ['true'] };
    const raw = { name: 'x', nodes: ['a', 'b', 'a', 'a'].map((id) => ({ id, run })) };
    expect(problemsOf(raw).map(({ path, code, message }) => `${path} ${code} ${message}`)).toEqual([
      'nodes[2].id DUPLICATE_ID nodes[0] has the id "a" already; give each node its own.',
      'nodes[3].id DUPLICATE_ID nodes[0] has the id "a" already; give each node its own.',
    ]);
  });
});

describe('cycles', () => {
  it('are told in full, one for each knot of nodes', () => {
    expect(told({ a: ['b'], b: ['c'], c: ['a'], d: ['c'], e: ['f'], f: ['e'] })).toEqual([
      `nodes[0].dependsOn ${waiting('a → b → c → a')}`,
      `nodes[4].dependsOn ${waiting('e → f → e')}`,
    ]);
  });

  it('are told by a shortest one where a knot has several', () => {
    expect(told({ a: ['b', 'c'], b: ['c'], c: ['d'], d: ['a', 'b'] })).toEqual([
      `nodes[0].dependsOn ${waiting('a → c → d → a')}`,
    ]);
  });

  it('quote texts that are no ids, so that no control character reaches a terminal', () => {
    const cycle = problemsOf(specOf({ 'a\u001b': ['b'], b: ['a\u001b'] })).filter(
      ({ code }) => code === 'CYCLE',
    );
    expect(cycle[0]?.message).toContain('"a\\u001b" → b → "a\\u001b"');
  });

  it('of 100,000 nodes are found without a deep stack, and told with the middle cut out', () => {
    const size = 100_000;
    const edges = Object.fromEntries(
      Array.from({ length: size }, (_, i) => [`n${i}`, [`n${(i + 1) % size}`]]),
    );
    const problems = problemsOf(specOf(edges));
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toContain('n0 → n1 → ');
    expect(problems[0]?.message).toContain(' → n49 → … 99901 more … → n99951 → ');
    expect(problems[0]?.message).toContain(' → n99999 → n0 (');
  }, 30_000);
});

/** A DAG: each node depends only on nodes before it, then the nodes are shuffled. */
const dag = fc.integer({ min: 2, max: 40 }).chain((size) =>
  fc.record({
    edges: fc.tuple(
      ...Array.from({ length: size }, (_, i) =>
        fc.uniqueArray(fc.integer({ min: 0, max: Math.max(0, i - 1) }), { maxLength: i === 0 ? 0 : 4 }),
      ),
    ),
    order: fc.shuffledSubarray([...Array(size).keys()], { minLength: size }),
  }),
);

const toSpec = ({ edges, order }: { edges: number[][]; order: number[] }) =>
  Object.fromEntries(order.map((i) => [`n${i}`, (edges[i] ?? []).map((j) => `n${j}`)]));

describe('any graph', () => {
  it('without a cycle is accepted', () => {
    fc.assert(
      fc.property(dag, (graph) => {
        expect(told(toSpec(graph))).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('with an edge back along a path has that cycle found, and the reported ids form a cycle', () => {
    fc.assert(
      fc.property(dag, fc.nat(), fc.nat(), (graph, from, steps) => {
        // Walks up from some node. An edge from the end of the walk to its start closes a cycle.
        const start = from % graph.edges.length;
        let end = start;
        for (let i = 0; i <= steps % 5; i++) end = graph.edges[end]?.[0] ?? end;
        fc.pre(end !== start);
        graph.edges[end]?.push(start);
        const edges = toSpec(graph);
        const cycles = problemsOf(specOf(edges)).filter(({ code }) => code === 'CYCLE');
        expect(cycles).toHaveLength(1);
        const names = /other: (.*) \(→/.exec(cycles[0]?.message ?? '')?.[1]?.split(' → ') ?? [];
        expect(names.length).toBeGreaterThan(2);
        expect(names[0]).toBe(names.at(-1));
        names.slice(1).forEach((name, i) => expect(edges[names[i] as string]).toContain(name));
      }),
      { numRuns: 300 },
    );
  });

  it('has exactly the knots in which every node reaches every other', () => {
    const anyGraph = fc
      .integer({ min: 1, max: 9 })
      .chain((size) =>
        fc.array(fc.uniqueArray(fc.nat({ max: size - 1 })), { minLength: size, maxLength: size }),
      );
    fc.assert(
      fc.property(anyGraph, (graph) => {
        const edges = graph.map((targets, i) => targets.filter((target) => target !== i));
        const reach = closure(edges);
        const expected = new Set<string>();
        edges.forEach((_, i) => {
          const knot = [...edges.keys()].filter((j) => j === i || (reach[i]?.has(j) && reach[j]?.has(i)));
          if (knot.length > 1) expected.add(knot.join());
        });
        const found = drained(findKnots(edges));
        expect(new Set(found.map((knot) => knot.join()))).toEqual(expected);
        for (const knot of found) expect(cycleThroughFirst(edges, knot)[0]).toBe(knot[0]);
      }),
      { numRuns: 500 },
    );
  });
});

function drained<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** For each node, the nodes that it can reach, computed by a slow and obvious method. */
function closure(edges: readonly (readonly number[])[]): Set<number>[] {
  return edges.map((targets) => {
    const seen = new Set<number>();
    const queue = [...targets];
    for (const node of queue) {
      if (seen.has(node)) continue;
      seen.add(node);
      queue.push(...(edges[node] ?? []));
    }
    return seen;
  });
}
