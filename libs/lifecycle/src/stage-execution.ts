import type { ExecutionSpec } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';

/** Staged keys of a submit that never committed go by themselves. Milliseconds. */
const STAGING_MS = 600_000;
const CHUNK = 500;

function chunks<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / CHUNK) }, (_, i) =>
    items.slice(i * CHUNK, (i + 1) * CHUNK),
  );
}

/**
 * Writes a spec's nodes and graph under the execution's keys, in chunks, before anything points to them: a spec of
 * 100,000 nodes is never one long script, and a submit that dies half-way leaves only keys that expire.
 */
export async function stageExecution(
  valkey: Valkey,
  executionId: string,
  spec: ExecutionSpec,
): Promise<void> {
  const { keys, redis } = valkey;
  const dependants = new Map<string, string[]>();
  for (const node of spec.nodes) {
    for (const dependency of node.dependsOn) {
      const known = dependants.get(dependency);
      if (known === undefined) dependants.set(dependency, [node.id]);
      else known.push(node.id);
    }
  }
  const part = (name: Parameters<typeof keys.execution>[1]): string => keys.execution(executionId, name);
  const roots = spec.nodes.filter((node) => node.dependsOn.length === 0).map((node) => `r${node.id}`);
  // A submit repeated after a lost reply stages the same again: lists must not double.
  await redis.del(part('order'), part('todo'));
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
          }),
        ]),
      ),
    );
    pipeline.hset(part('deps'), Object.fromEntries(group.map((node) => [node.id, node.dependsOn.length])));
    pipeline.rpush(part('order'), ...group.map((node) => node.id));
    pipeline.sadd(part('open'), ...group.map((node) => node.id));
    await settle(pipeline.exec());
  }
  for (const group of chunks([...dependants].flatMap(inPieces))) {
    await redis.hset(part('outs'), Object.fromEntries(group));
  }
  for (const group of chunks(roots)) await redis.rpush(part('todo'), ...group);
  const expiry = redis.pipeline();
  for (const name of ['specs', 'nodes', 'deps', 'outs', 'order', 'open', 'todo'] as const) {
    expiry.pexpire(part(name), STAGING_MS);
  }
  await settle(expiry.exec());
}

/** A node's dependants in pieces that one script can look at: the first under its id, the others numbered (execution.lua). */
function inPieces([id, next]: readonly [string, readonly string[]]): [string, string][] {
  return chunks(next).map((piece, i) => [i === 0 ? id : `${id}\t${i}`, JSON.stringify(piece)]);
}

/** A pipeline reports each command's error in its row; the first one is raised. */
async function settle(rows: Promise<[Error | null, unknown][] | null>): Promise<void> {
  const errors = ((await rows) as [Error | null, unknown][])
    .map(([error]) => error)
    .filter((error) => error !== null);
  if (errors.length > 0) throw errors[0] as Error;
}
