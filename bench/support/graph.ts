import type { ExecutionSpec } from '#libs/contracts';
import type { FlowJob } from 'bullmq';
import { node, spec } from '../../test/support/specs';

/** A benchmark's graph: for each node, the numbers of its dependencies. */
export type Graph = readonly (readonly number[])[];

/** Layers of `width`; each node waits for two of the layer before. */
export function layers(count: number, width: number): Graph {
  return Array.from({ length: count }, (_, i) =>
    i < width ? [] : [i - width, i - (i % width) - width + ((i + 1) % width)],
  );
}

/** All but one are independent, and the last waits for all of them. */
export function fanIn(count: number): Graph {
  return Array.from({ length: count }, (_, i) =>
    i < count - 1 ? [] : Array.from({ length: count - 1 }, (_, from) => from),
  );
}

/** The first opens all others at once, and the last waits for all of them: the worst case for a script that opens nodes. */
export function fanOutIn(count: number): Graph {
  return Array.from({ length: count }, (_, i) => {
    if (i === 0) return [];
    return i < count - 1 ? [0] : Array.from({ length: count - 2 }, (_, from) => from + 1);
  });
}

/** `count` nodes without edges. */
export const loose = (count: number): Graph => Array.from({ length: count }, () => []);

const names = (numbers: readonly number[]): string[] => numbers.map((n) => `n${n}`);

/** The graph as a stored spec, with every default. */
export function specOf(graph: Graph): ExecutionSpec {
  return spec(
    graph.map((waitsFor, i) => node(`n${i}`, { dependsOn: names(waitsFor) })),
    { name: 'bench' },
  );
}

/** The graph as a request of the API. */
export function requestOf(graph: Graph, command: (node: number) => readonly string[]) {
  return {
    name: 'bench',
    nodes: graph.map((waitsFor, i) => ({
      id: `n${i}`,
      dependsOn: names(waitsFor),
      run: { command: command(i) },
    })),
  };
}

/** The root's name: a flow is done when its root is. */
export const FLOW_ROOT = 'root';

/** BullMQ's flow of `count` jobs in `width` chains below one root: a flow is a tree. */
export function flowOf(queueName: string, count: number, width: number): FlowJob {
  const chain = (length: number): FlowJob => ({
    name: 'n',
    queueName,
    ...(length > 1 ? { children: [chain(length - 1)] } : {}),
  });
  const children = Array.from({ length: width }, (_, i) =>
    chain(Math.floor(count / width) + (i < count % width ? 1 : 0)),
  );
  return { name: FLOW_ROOT, queueName, children };
}
