import type { DispatchEntry, ExecutionSpec } from '#libs/contracts';
import { LifecycleService, readResults, type Claim, type Fence } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer, type ThrowawayServer } from '#libs/local-server';

export * from './specs';

/** The parts that the tests of a file use. */
export interface Rig {
  /** The address of the server. */
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

/** Resolves with the execution's id. */
export async function createExecution(
  life: LifecycleService,
  made: ExecutionSpec,
  start = true,
): Promise<string> {
  return (await life.executions.create(made, { start, canonical: JSON.stringify(made) })).id;
}

/** Advances until nothing is left to do. Resolves with the attempts that became ready. */
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

/** An attempt that was claimed and started. */
export interface StartedAgent {
  /** The id of its execution. */
  readonly id: string;
  readonly agentId: string;
  readonly fence: Fence;
}

const OWNER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';

/** Claims the next ready node of an execution, and reports that it runs. */
export async function startNext(life: LifecycleService, id: string, owner = OWNER): Promise<StartedAgent> {
  const [job] = (await life.executions.advance(id)).entries;
  if (job === undefined) throw new Error(`no node of ${id} is ready`);
  return start(life, job, owner);
}

/** The same for every ready node. */
export async function startAll(life: LifecycleService, id: string): Promise<StartedAgent[]> {
  const { entries } = await life.executions.advance(id);
  const started: StartedAgent[] = [];
  for (const job of entries) started.push(await start(life, job, OWNER));
  return started;
}

async function start(life: LifecycleService, job: DispatchEntry, owner: string): Promise<StartedAgent> {
  const { agentId, executionId } = job;
  const claim = await life.agents.claim(job, owner, `token-${agentId}`);
  if (!claim.claimed) throw new Error(`claim refused: ${claim.why}`);
  await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  return { id: executionId, agentId, fence: claim.fence };
}

/** The results that the agent of a claim would get, by node. */
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
