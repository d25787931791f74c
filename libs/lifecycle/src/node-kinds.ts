import type { ExecutionSpec } from '#libs/contracts';
import { turn } from '#libs/valkey';

/** More kinds of nodes than these are not compared with a latch at the submit; each claim still is. */
const MAX_KINDS = 64;
/** Nodes looked at in one step. */
const STEP = 2_000;

type Labels = Readonly<Record<string, string>>;

/** The distinct kinds of nodes of a spec that a latch and a selector tell apart; nothing beyond a bound. */
export interface NodeKinds {
  readonly kinds: readonly { readonly pool: string; readonly labels: Labels }[];
  /** Those of nodes that have some of their own, together with the execution's. */
  readonly labels: readonly Labels[];
}

/** In steps: a spec may have 100,000 nodes. */
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
