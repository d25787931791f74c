/** Moves along edges before other work gets a turn. */
const STEP = 20_000;

/**
 * The strongly connected components of two nodes or more, each as node indexes in ascending order, the component
 * with the smallest index first. Tarjan's algorithm with a stack of its own: linear in nodes and edges, and a chain
 * of 100,000 nodes needs no deep recursion. `edges[i]` lists what node i depends on, without itself. In steps.
 */
export function* findKnots(edges: readonly (readonly number[])[]): Generator<undefined, number[][]> {
  const count = edges.length;
  const order = new Int32Array(count); // 0: not seen; else 1 + the time at which it was first seen
  const low = new Int32Array(count);
  const onStack = new Uint8Array(count);
  const nextEdge = new Int32Array(count);
  const stack: number[] = [];
  const calls: number[] = [];
  const knots: number[][] = [];
  let clock = 0;

  const enter = (node: number): void => {
    clock += 1;
    order[node] = clock;
    low[node] = clock;
    onStack[node] = 1;
    stack.push(node);
    calls.push(node);
  };

  const leave = (node: number): void => {
    calls.pop();
    const caller = calls.at(-1);
    if (caller !== undefined) low[caller] = Math.min(low[caller]!, low[node]!);
    if (low[node] !== order[node]) return;
    const members = stack.splice(stack.lastIndexOf(node));
    for (const member of members) onStack[member] = 0;
    if (members.length > 1) knots.push(members.sort((a, b) => a - b));
  };

  let root = 0;
  /** False: all is done. A plain function, since V8 does not optimise a running loop of a generator. */
  const move = (moves: number): boolean => {
    for (let left = moves; left > 0; left--) {
      const node = calls.at(-1);
      if (node === undefined) {
        while (root < count && order[root] !== 0) root++;
        if (root === count) return false;
        enter(root);
        continue;
      }
      const target = edges[node]![nextEdge[node]!];
      nextEdge[node]! += 1;
      if (target === undefined) leave(node);
      else if (order[target] === 0) enter(target);
      else if (onStack[target] === 1) low[node] = Math.min(low[node]!, order[target]!);
    }
    return true;
  };

  while (move(STEP)) yield;
  return knots.sort((a, b) => a[0]! - b[0]!);
}

/**
 * A shortest cycle through the first node of a knot: its indexes in the order of the edges, the first not
 * repeated at the end. Breadth first inside the knot, so linear in the knot.
 */
export function cycleThroughFirst(edges: readonly (readonly number[])[], knot: readonly number[]): number[] {
  const start = knot[0]!;
  const inside = new Set(knot);
  const cameFrom = new Map<number, number>();
  const queue = [start];
  for (const node of queue) {
    for (const target of edges[node]!) {
      if (!inside.has(target) || cameFrom.has(target)) continue;
      cameFrom.set(target, node);
      queue.push(target);
    }
    if (cameFrom.has(start)) break;
  }
  const cycle: number[] = [];
  let node = start;
  do {
    node = cameFrom.get(node)!;
    cycle.push(node);
  } while (node !== start);
  return cycle.toReversed();
}
