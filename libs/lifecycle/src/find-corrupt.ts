import { executionProblem, jsonProblem, parseAgentId, type BelayError } from '#libs/contracts';
import { corrupt, isCorrupt, parseStored, type Valkey } from '#libs/valkey';
import type { ExecutionPart } from '#libs/valkey';

const TYPES: readonly (readonly [ExecutionPart | undefined, string])[] = [
  [undefined, 'hash'],
  ['specs', 'hash'],
  ['nodes', 'hash'],
  ['deps', 'hash'],
  ['outs', 'hash'],
  ['results', 'hash'],
  ['agents', 'hash'],
  ['order', 'list'],
  ['todo', 'list'],
  ['open', 'set'],
  ['live', 'set'],
  ['events', 'stream'],
  ['asks', 'hash'],
];

/** A stop cancels this many nodes in one call. */
const OPEN_LOOKED_AT = 200;

/** The server's message when a script met unusable data: `WRONGTYPE …`, or Lua's own error. */
const SCRIPT_FAULT = /WRONGTYPE|user_script/;

/**
 * Finds the corrupt record that made a script on an execution fail: the first unreadable one among the records of the
 * call. Undefined: the failure has another cause. A few reads, made only after such a failure.
 */
export async function findCorrupt(
  valkey: Valkey,
  executionId: string,
  args: readonly (string | number)[],
  error: unknown,
): Promise<BelayError | undefined> {
  if (!SCRIPT_FAULT.test(String(error))) return undefined;
  try {
    await checkTypes(valkey, executionId);
    await checkRecord(valkey, executionId);
    await checkParts(valkey, executionId, args);
    return undefined;
  } catch (found) {
    return isCorrupt(found) ? found : undefined;
  }
}

async function checkTypes({ redis, keys }: Valkey, id: string): Promise<void> {
  const types = await Promise.all(TYPES.map(async ([part]) => redis.type(keys.execution(id, part))));
  for (const [i, [part, wanted]] of TYPES.entries()) {
    const type = types[i] as string;
    if (type !== wanted && type !== 'none')
      throw corrupt({
        key: keys.execution(id, part),
        problem: `it is a ${type}, not a ${wanted}`,
        stops: true,
      });
  }
}

async function checkRecord({ redis, keys }: Valkey, id: string): Promise<void> {
  const key = keys.execution(id);
  const fields = await redis.hgetall(key);
  const wrong = executionProblem(fields);
  if (wrong !== undefined) throw corrupt({ key, ...wrong, text: String(fields[wrong.field]), stops: true });
}

/**
 * Checks the nodes and agents that the call named, the first node that is left to move, and the nodes that have not
 * started.
 */
async function checkParts(
  { redis, keys }: Valkey,
  id: string,
  args: readonly (string | number)[],
): Promise<void> {
  const names = new Set(args.map(String));
  const [todo, open] = await Promise.all([
    redis.lrange(keys.execution(id, 'todo'), 0, 0),
    redis.srandmember(keys.execution(id, 'open'), OPEN_LOOKED_AT),
  ]);
  const waiting = new Set([...todo.map((item) => item.slice(1).replace(/\t.*/, '')), ...open]);
  for (const name of waiting) names.add(name);
  for (const agentId of args.map(String)) {
    const agent = parseAgentId(agentId);
    if (agent === undefined) continue;
    const node = await redis.lindex(keys.execution(id, 'order'), agent.index);
    if (node !== null) names.add(node);
  }
  for (const name of names)
    for (const [part, kind] of [
      ['nodes', 'node'],
      ['agents', 'agent'],
      ['specs', undefined],
      ['outs', undefined],
    ] as const) {
      const key = keys.execution(id, part);
      const text = await redis.hget(key, name);
      if (text !== null) readPart(key, name, text, kind);
      else if (kind === 'node' && waiting.has(name))
        throw corrupt({ key, field: name, problem: 'it is missing', stops: true });
    }
}

function readPart(key: string, field: string, text: string, kind: 'node' | 'agent' | undefined): void {
  try {
    const value = parseStored<unknown>(key, text, field);
    const wrong = kind === undefined ? undefined : jsonProblem(kind, value);
    if (wrong !== undefined) throw corrupt({ key, field, problem: wrong.problem, text });
  } catch (error) {
    const { problem } = (error as BelayError).details as { problem: string };
    throw corrupt({ key, field, problem, text, stops: true }, error);
  }
}
