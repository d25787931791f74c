import type { ExecutionSpec } from '#libs/contracts';
import { turn } from '#libs/valkey';

/** A submit compares at most this many kinds of nodes with the latches. Each claim compares as well. */
const MAX_KINDS = 64;
/** Nodes read before other work gets a turn. */
const STEP = 2_000;

type Labels = Readonly<Record<string, string>>;

/** The distinct kinds of nodes of a spec, as latches and selectors tell them apart; undefined beyond a bound. */
export interface NodeKinds {
  readonly kinds: readonly { readonly pool: string; readonly labels: Labels }[];
  /** The labels of nodes that have labels of their own, merged with the execution's. */
  readonly labels: readonly Labels[];
}

/** Works in steps: a spec may have 100,000 nodes. */
export async function nodeKindsOf(spec: ExecutionSpec): Promise<NodeKinds> {
  const kinds = new Map<string, { pool: string; labels: Labels }>();
  const labelled = new Map<string, Labels>();
  for (const [index, { pool, labels: own }] of spec.nodes.entries()) {
    if (index % STEP === STEP - 1) await turn();
    const isPlain = Object.keys(own).length === 0;
    const labels = isPlain ? spec.labels : { ...spec.labels, ...own };
    const name = isPlain ? '' : nameOf(labels);
    const kind = `${pool} ${name}`;
    if (kinds.size <= MAX_KINDS && !kinds.has(kind)) kinds.set(kind, { pool, labels });
    if (!isPlain && labelled.size <= MAX_KINDS && !labelled.has(name)) labelled.set(name, labels);
    if (kinds.size > MAX_KINDS && labelled.size > MAX_KINDS) break;
  }
  return {
    kinds: kinds.size > MAX_KINDS ? [] : [...kinds.values()],
    labels: labelled.size > MAX_KINDS ? [] : [...labelled.values()],
  };
}

function nameOf(labels: Labels): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}
