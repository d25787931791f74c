import type { DispatchEntry, ExecutionSpec, NodeSpec } from '#libs/contracts';
import { LifecycleService, readResults, type Claim } from '#libs/lifecycle';
import { startThrowawayServer, Valkey, type ThrowawayServer } from '#libs/valkey';

/** A node with every default, for tests. */
export function node(id: string, over: Partial<NodeSpec> = {}): NodeSpec {
  return {
    id,
    dependsOn: [],
    run: { command: ['true'], env: {}, shell: false },
    pool: 'default',
    priority: 5,
    labels: {},
    maxAttempts: 1,
    backoff: { type: 'fixed', delayMs: 0, maxMs: 0, jitter: 0 },
    allowFailure: false,
    onLostContact: 'stop',
    recovery: { auto: true },
    ...over,
  };
}

/** A spec of those nodes, for tests. */
export function spec(nodes: readonly NodeSpec[], over: Partial<ExecutionSpec> = {}): ExecutionSpec {
  return { name: 'test', labels: {}, onFailure: 'stop', nodes, ...over };
}

/** The parts that the tests of a file work with. */
export interface Rig {
  /** Of the server. */
  readonly url: string;
  readonly valkey: Valkey;
  readonly life: LifecycleService;
}

/** A service on a server of its own, from before the first test of a file until after its last. */
export function useLife(onReady: (rig: Rig) => void): void {
  let server: ThrowawayServer | undefined;
  let valkey: Valkey | undefined;
  beforeAll(async () => {
    server = await startThrowawayServer();
    valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 2 }).open();
    onReady({ url: server.url, valkey, life: new LifecycleService(valkey, { retentionMs: 60_000 }) });
  });
  afterAll(async () => {
    valkey?.close();
    await server?.stop();
  });
}

/** Its id. */
export async function createExecution(
  life: LifecycleService,
  made: ExecutionSpec,
  start = true,
): Promise<string> {
  return (await life.executions.create(made, { start, canonical: JSON.stringify(made) })).id;
}

/** Advances until there is no more to do by itself; what became ready. */
export async function advanceAll(
  life: LifecycleService,
  id: string,
  limit?: number,
): Promise<DispatchEntry[]> {
  const entries: DispatchEntry[] = [];
  for (;;) {
    const step = await life.executions.advance(id, limit);
    entries.push(...step.entries);
    if (!step.more) return entries;
  }
}

/** The results that a claim's agent would be given, by node. */
export async function upstreamOf(
  life: LifecycleService,
  executionId: string,
  { node: { dependsOn } }: Pick<Extract<Claim, { claimed: true }>, 'node'>,
): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for await (const piece of readResults(life.valkey, executionId, dependsOn))
    for (const [nodeId, json] of piece) found[nodeId] = JSON.parse(json);
  return found;
}
