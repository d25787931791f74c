import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AgentRecord } from '#libs/contracts';
import { Redis } from 'ioredis';
import { ended, running as agentsRunning } from '../support/executions';
import { eventually, processesWith, startFleet, type Fleet } from '../support/fleet';

const LEASE_MS = 4_000;
const ENV = { BELAY_LEASE_TTL_MS: String(LEASE_MS), BELAY_HEARTBEAT_MS: '200', BELAY_GRACE_MS: '300' };
const sh = (script: string) => ({ command: [script], shell: true });
const BALLAST_MB = 48;

let fleet: Fleet;
let operator: Redis;

async function submit(nodes: readonly unknown[], more: object = {}): Promise<string> {
  return (await fleet.client.createExecution({ name: 'test', nodes, ...more })).execution.id;
}

const running = async (id: string): Promise<AgentRecord[]> => agentsRunning(fleet.client, id, 1, 60_000);

async function usedMemory(): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await operator.info('memory'))?.[1]);
}

/** Foreign data takes the memory: the bound is far below the use, so freeing a little does not help. */
async function fill(): Promise<void> {
  const megabyte = 'x'.repeat(1024 * 1024);
  for (let i = 0; i < BALLAST_MB; i++) await operator.set(`ballast:${i}`, megabyte);
  await operator.config('SET', 'maxmemory', String((await usedMemory()) - 16 * 1024 * 1024));
  await expect(operator.set('words', '1')).rejects.toThrow(/^OOM/);
}

async function makeRoom(): Promise<void> {
  await operator.unlink(...Array.from({ length: BALLAST_MB }, (_, i) => `ballast:${i}`));
}

/** Waits until every worker has renewed its lease past `at`, by the server's clock. */
async function renewedPast(at: number): Promise<void> {
  await eventually(async () => {
    const { items } = await fleet.client.workers();
    const live = items.filter(({ state }) => state === 'running');
    return live.length > 0 && live.every(({ leaseExpiresAt = 0 }) => leaseExpiresAt - LEASE_MS > at);
  }, 'a renewed lease of every worker');
}

beforeEach(async () => {
  fleet = await startFleet({ workers: 2, env: ENV });
  operator = new Redis(fleet.server.url.replace(/^unix:\/\//, ''));
});

afterEach(async () => {
  operator.disconnect();
  await fleet.stop();
});

describe('a server whose memory is full', () => {
  it('R10 R25 R27 R51 keeps its agents alive past the lease, carries out kills with proof, refuses submits, and goes on once there is room', async () => {
    const go = join(fleet.dir, 'go');
    const steady = await submit([{ id: 'a', run: sh('exec sleep 600') }]);
    const victim = await submit([{ id: 'a', run: sh(`trap '' TERM; while :; do sleep 0.1; done`) }]);
    const lone = await submit([{ id: 'a', run: sh('exec sleep 600') }]);
    const ending = await submit([
      {
        id: 'a',
        run: sh(
          `echo early; until [ -e ${go} ]; do sleep 0.05; done; echo late; echo '{"type":"result","value":42}' >&3`,
        ),
      },
      { id: 'b', dependsOn: ['a'], run: sh('true') },
    ]);
    const [own] = await running(lone);
    for (const id of [steady, victim, ending]) await running(id);
    const [early] = (await fleet.client.agents({ executionId: ending })).items;
    await eventually(
      async () => (await fleet.client.logs(early?.id ?? '')).lines.length === 1,
      'the first line of its log',
    );
    const untouched = processesWith(steady);

    await fill();
    const { items } = await fleet.client.workers();
    const filledAt = Math.max(...items.map(({ lastHeartbeatAt = 0 }) => lastHeartbeatAt));
    await renewedPast(filledAt + 2 * LEASE_MS);
    expect(processesWith(steady)).toEqual(untouched);
    expect((await fleet.client.armed()).armed).toBe(true);

    // Each refusal comes at once, says what to do, and stores nothing.
    const refused = fleet.client.createExecution({ name: 'late', nodes: [{ id: 'a', run: sh('true') }] });
    await expect(refused).rejects.toMatchObject({
      code: 'SERVER_FULL',
      details: { status: 507 },
      message: expect.stringMatching(/memory.*(belay|BELAY_|maxmemory)/s) as string,
    });

    // Kills of one execution, and of one agent with a latch, with proof.
    const stopped = await fleet.client.stop(victim);
    expect(stopped).toMatchObject({ status: 'stopped', receipt: { complete: true, totals: { killed: 1 } } });
    expect(processesWith(victim)).toEqual([]);
    const kill = await fleet.client.kill({
      scope: { type: 'agent', agentId: (own as AgentRecord).id },
      latch: true,
    });
    expect(kill).toMatchObject({ complete: true, totals: { killed: 1 } });
    expect(processesWith(lone)).toEqual([]);

    // An end is stored while the server is full; the nodes that it makes ready wait for room.
    writeFileSync(go, '');
    await eventually(async () => {
      const { state, result } = await fleet.client.node(ending, 'a');
      return state === 'completed' && result === 42;
    }, 'the end of a node');

    // A process that dies now is replaced: a full server keeps no process out.
    await fleet.addWorker();
    expect(processesWith(steady)).toEqual(untouched);

    // The log does not get the last of the memory: the agent's lines of that time are only in its worker's file.
    const [said] = (await fleet.client.agents({ executionId: ending })).items;
    const { lines, file } = await fleet.client.logs(said?.id ?? '');
    expect(lines.map(({ line }) => line)).toEqual(['early']);
    expect(readFileSync(file?.path ?? '', 'utf8')).toContain('late');

    await makeRoom();
    expect(await ended(fleet.client, ending)).toMatchObject({ state: 'completed' });
    const later = await submit([{ id: 'a', run: sh('true') }]);
    expect(await ended(fleet.client, later)).toMatchObject({ state: 'completed' });
    expect(processesWith(steady)).toEqual(untouched);
  });
});
