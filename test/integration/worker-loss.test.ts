import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkLives, groupBy, span } from '../faults/check-lives';
import { uptime, wallOffset } from '../faults/clock';
import { executionFacts, readLines } from '../faults/gather';
import type { History, Line } from '../faults/history';
import { eventually, NOISE_MS, processesWith, startFleet, type Fleet, type Member } from '../support/fleet';
import { isAlive, procEntry } from '../support/proc';

const AGENT = resolve(__dirname, '../fixtures/faults/agent.sh');
const AGENTS = 50;
const LEASE_MS = 4_000;
/** The bound from the death of a worker to the death of its trees (docs/process-signals.md#when-the-worker-dies). */
const TREES_DEAD_MS = 1_000;
/** The time that a loaded test machine may add before the lease is taken over. */
const ELSEWHERE_SLACK_MS = 30_000;
/** Shell, the shell between, the deaf child: the processes of a tree that stay. */
const STAYING = 3;

let fleet: Fleet;
afterEach(async () => fleet.stop());

const first = (lines: readonly Line[]): Line => lines.find(({ role }) => role === 'main') as Line;
const attemptOf = (agentId: string): number => Number(agentId.slice(agentId.lastIndexOf('-') + 1));
const percentile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(part * values.length))] as number;

interface Tree {
  readonly agentId: string;
  readonly members: readonly { readonly pid: number; readonly startTime: string }[];
}

/** Every process of each agent, by this test's own look at /proc. */
function treesOf(agentIds: readonly string[]): Tree[] {
  return agentIds.map((agentId) => ({
    agentId,
    members: processesWith(`BELAY_AGENT_ID=${agentId}\0`).flatMap(({ pid }) => procEntry(pid) ?? []),
  }));
}

/** Kills the worker and looks at every process of every tree, again and again, until none lives. Milliseconds. */
async function killAndWatch(worker: Member, trees: readonly Tree[]) {
  const diedAfter = new Map<string, number>();
  const left = new Map(trees.map(({ agentId, members }) => [agentId, [...members]]));
  let resolution = 0;
  const killedAt = performance.now();
  worker.process.kill('SIGKILL');
  for (let looked = killedAt; left.size > 0;) {
    for (const [agentId, members] of left) {
      const alive = members.filter(
        ({ pid, startTime }) => isAlive(pid) && procEntry(pid)?.startTime === startTime,
      );
      left.set(agentId, alive);
      if (alive.length > 0) continue;
      diedAfter.set(agentId, performance.now() - killedAt);
      left.delete(agentId);
    }
    await new Promise((next) => setImmediate(next));
    const now = performance.now();
    resolution = Math.max(resolution, now - looked);
    looked = now;
    if (now - killedAt > 20_000) throw new Error(`trees that live on: ${[...left.keys()].join(', ')}`);
  }
  return { diedAfter: [...diedAfter.values()], resolution };
}

it('R17 R26 kill -9 of a worker with 50 agents: their trees die at once, each runs elsewhere after the lease, never two copies', async () => {
  const env = {
    BELAY_LEASE_TTL_MS: String(LEASE_MS),
    BELAY_HEARTBEAT_MS: '300',
    BELAY_GRACE_MS: '300',
    BELAY_WORKER_CONCURRENCY: String(AGENTS),
  };
  fleet = await startFleet({ workers: 1, env });
  // Two janitors: a lost attempt is taken over once all the same.
  await fleet.addOrchestrator();
  const records = join(fleet.dir, 'records');
  mkdirSync(records);
  const record = (node: number): string => join(records, `n${node}`);
  // An agent that finds its record gone ends: nothing outlives a killed test.
  for (let i = 0; i < AGENTS; i++) writeFileSync(record(i), '');
  const { execution } = await fleet.client.createExecution({
    name: 'fifty',
    nodes: Array.from({ length: AGENTS }, (_, i) => ({
      id: `n${i}`,
      run: {
        command: ['/bin/sh', AGENT],
        env: { RECORD: record(i), HABIT: 'grandchild', BEAT: '0.5', BEATS: '600', CODE: '0' },
      },
      maxAttempts: 2,
      backoff: { type: 'fixed', delayMs: 0 },
    })),
  });
  const { id } = execution;
  const victim = fleet.workers[0] as Member;
  const beats = () => groupBy(readLines(records), ({ agentId }) => agentId);
  const running = await eventually(
    async () => {
      const { items } = await fleet.client.agents({ executionId: id, state: ['running'], limit: AGENTS });
      const lives = beats();
      const both = items.filter((agent) =>
        ['main', 'child'].every((role) => lives.get(agent.id)?.some((line) => line.role === role)),
      );
      return both.length === AGENTS && both;
    },
    `${AGENTS} trees of two that beat`,
    60_000,
  );
  expect(new Set(running.map(({ owner }) => owner))).toEqual(new Set([victim.id]));
  // The workers that take over are ready before this one dies. They have a data directory of their own, as on another host: a
  // neighbour would reap the trees that a guardian leaves, and hide the fault.
  const elsewhere = { BELAY_DATA_DIR: join(fleet.dir, 'elsewhere') };
  await Promise.all([fleet.addWorker(elsewhere), fleet.addWorker(elsewhere)]);
  const trees = treesOf(running.map((agent) => agent.id));
  expect(Math.min(...trees.map(({ members }) => members.length))).toBeGreaterThanOrEqual(STAYING);

  const killedAt = uptime();
  const { diedAfter, resolution } = await killAndWatch(victim, trees);
  // The list is complete: by its environment, too, no process of a first attempt is left.
  expect(running.flatMap((agent) => processesWith(`BELAY_AGENT_ID=${agent.id}\0`))).toEqual([]);

  await eventually(
    async () => [...beats().keys()].filter((agentId) => attemptOf(agentId) === 2).length === AGENTS,
    'a second attempt of every node',
    60_000,
  );
  const elsewhereAfter = [...beats()]
    .filter(([agentId]) => attemptOf(agentId) === 2)
    .map(([, lines]) => (first(lines).at - killedAt) * 1_000);
  // A worker of the first host reports the proof of the guardian there; then the receipt names every attempt as killed.
  await fleet.addWorker();
  const { receipt } = await fleet.client.stop(id);
  expect(receipt).toMatchObject({ complete: true, missing: [] });

  const facts = await executionFacts(fleet.life, { id, team: '', accepted: true });
  const agents = await fleet.life.agents.list({ executionId: id, limit: 3 * AGENTS });
  const others = fleet.workers.slice(1).map((worker) => worker.id);
  expect(agents).toHaveLength(2 * AGENTS);
  for (const agent of agents) expect(agent.attempt === 1 ? [victim.id] : others).toContain(agent.owner);
  const spawned = facts.events.filter(({ type }) => type === 'agent.spawning');
  expect(new Set(spawned.map(({ agentId }) => agentId)).size).toBe(spawned.length);

  // No double copy, by the agents' own records: one main process an attempt, and each node's second after its first.
  const lines = readLines(records);
  const history: History = {
    executions: [facts],
    orders: [],
    holds: [],
    receipts: [],
    faults: [],
    workers: [],
    drains: [],
    drills: [],
    armed: [],
    produced: [],
    retried: [],
    unfinished: [],
    forged: [],
    accepted: {},
    lossWindows: [],
    stepped: [],
    lines,
    aliveAtEnd: [],
    aliveAfter: [],
    forgotten: [],
    pruned: false,
    wallOffset: wallOffset(),
    lateS: 0,
  };
  expect(checkLives(history)).toEqual([]);
  const lives = beats();
  for (const [agentId, said] of lives) {
    expect(said.filter(({ word, role }) => word === 'start' && role === 'main')).toHaveLength(1);
    if (attemptOf(agentId) !== 2) continue;
    const before = lives.get(`${agentId.slice(0, -1)}1`) as Line[];
    expect(span(before).last.at).toBeLessThan(first(said).at);
  }

  const figures = {
    agents: AGENTS,
    processes: trees.reduce((sum, { members }) => sum + members.length, 0),
    treesDeadMs: { p50: percentile(diedAfter, 0.5), p99: percentile(diedAfter, 0.99), resolution },
    elsewhereMs: {
      p50: percentile(elsewhereAfter, 0.5),
      p99: percentile(elsewhereAfter, 0.99),
      lease: LEASE_MS,
    },
  };
  process.stdout.write(
    `worker kill -9: ${JSON.stringify(figures, (_, value: unknown) => (typeof value === 'number' ? Math.round(value * 10) / 10 : value))}\n`,
  );
  expect(diedAfter).toHaveLength(AGENTS);
  expect(Math.max(...diedAfter)).toBeLessThan(TREES_DEAD_MS + resolution + NOISE_MS);
  expect(Math.max(...elsewhereAfter)).toBeLessThan(LEASE_MS + ELSEWHERE_SLACK_MS);
});
