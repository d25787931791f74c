import type { ExecutionSpec } from '#libs/contracts';
import { turn, withoutCommand, type ExecutionPart, type Valkey } from '#libs/valkey';

/** The staged keys of a submit that never committed expire after this. Milliseconds. */
const STAGING_MS = 600_000;
const CHUNK = 500;
/** Nodes and edges processed before other work gets a turn. */
const STEP = 10_000;

function chunks<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / CHUNK) }, (_, i) =>
    items.slice(i * CHUNK, (i + 1) * CHUNK),
  );
}

type Part = Extract<ExecutionPart, 'specs' | 'nodes' | 'deps' | 'outs' | 'order' | 'open' | 'todo'>;
const PARTS: readonly Part[] = ['specs', 'nodes', 'deps', 'outs', 'order', 'open', 'todo'];

/**
 * Writes a spec's nodes and graph under the execution's keys, in chunks, before anything points to them. So a spec of
 * 100,000 nodes is never one long script, and a submit that dies half-way leaves only keys that expire.
 */
export async function stageExecution(
  valkey: Valkey,
  executionId: string,
  spec: ExecutionSpec,
): Promise<void> {
  const { keys, redis } = valkey;
  const part = (name: ExecutionPart): string => keys.execution(executionId, name);
  const pieces = [...(await dependantsOf(spec))].flatMap(inPieces);
  const roots = spec.nodes.filter((node) => node.dependsOn.length === 0).map((node) => `r${node.id}`);
  await settle(begin(redis.pipeline(), part, spec.nodes.slice(0, 1), pieces.slice(0, 1)).exec());
  let index = 0;
  for (const group of chunks(spec.nodes)) {
    const pipeline = redis.pipeline();
    pipeline.hset(part('specs'), Object.fromEntries(group.map((node) => [node.id, JSON.stringify(node)])));
    pipeline.hset(
      part('nodes'),
      Object.fromEntries(
        group.map((node) => [
          node.id,
          JSON.stringify({
            i: index++,
            s: 'pending',
            a: 0,
            p: node.pool,
            y: node.priority,
            f: node.allowFailure ? 1 : 0,
            ...(node.delayMs === undefined ? {} : { d: node.delayMs }),
          }),
        ]),
      ),
    );
    pipeline.hset(part('deps'), Object.fromEntries(group.map((node) => [node.id, node.dependsOn.length])));
    pipeline.rpush(part('order'), ...group.map((node) => node.id));
    pipeline.sadd(part('open'), ...group.map((node) => node.id));
    await settle(pipeline.exec());
  }
  for (const group of chunks(pieces)) await redis.hset(part('outs'), Object.fromEntries(group));
  for (const group of chunks(roots)) await redis.rpush(part('todo'), ...group);
  const end = redis.pipeline();
  // The first entry of the list is a placeholder, not a node. It is removed by value, so that a repeated command
  // removes no node.
  for (const name of ['order', 'todo'] as const) end.lrem(part(name), 1, '');
  for (const name of PARTS) end.pexpire(part(name), STAGING_MS);
  // The mark is written last: where it exists, everything before it does.
  end.set(part('staged'), spec.nodes.length, 'PX', STAGING_MS);
  await settle(end.exec());
}

/**
 * Creates each key almost empty, with its expiry, in one packet: whenever the submitter dies, the staged keys expire.
 * A submit that is repeated after a lost reply begins the lists and the mark anew.
 */
function begin(
  pipeline: ReturnType<Valkey['redis']['pipeline']>,
  part: (name: ExecutionPart) => string,
  firstNodes: readonly { readonly id: string }[],
  firstPieces: readonly (readonly [string, string])[],
): typeof pipeline {
  pipeline.del(part('staged'), part('order'), part('todo'));
  for (const { id } of firstNodes) {
    for (const name of ['specs', 'nodes', 'deps'] as const) pipeline.hset(part(name), id, '');
    pipeline.sadd(part('open'), id);
  }
  for (const [piece] of firstPieces) pipeline.hset(part('outs'), piece, '');
  for (const name of ['order', 'todo'] as const) pipeline.rpush(part(name), '');
  for (const name of PARTS) pipeline.pexpire(part(name), STAGING_MS);
  return pipeline;
}

/** Works in steps: a spec may have 100,000 nodes with many dependencies each. */
async function dependantsOf(spec: ExecutionSpec): Promise<Map<string, string[]>> {
  const dependants = new Map<string, string[]>();
  let left = STEP;
  for (const node of spec.nodes) {
    left -= 1 + node.dependsOn.length;
    if (left <= 0) {
      left = STEP;
      await turn();
    }
    for (const dependency of node.dependsOn) {
      const known = dependants.get(dependency);
      if (known === undefined) dependants.set(dependency, [node.id]);
      else known.push(node.id);
    }
  }
  return dependants;
}

/**
 * Cuts a node's dependants into pieces that one script can handle: the first is stored under the node's id, the
 * others are numbered (execution.lua).
 */
function inPieces([id, next]: readonly [string, readonly string[]]): [string, string][] {
  return chunks(next).map((piece, i) => [i === 0 ? id : `${id}\t${i}`, JSON.stringify(piece)]);
}

/** Raises the first error of a pipeline, which reports each command's error in its row. */
async function settle(rows: Promise<[Error | null, unknown][] | null>): Promise<void> {
  const errors = ((await rows) as [Error | null, unknown][])
    .map(([error]) => error)
    .filter((error) => error !== null);
  if (errors.length > 0) throw withoutCommand(errors[0]);
}
