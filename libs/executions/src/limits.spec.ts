import type { AgentJob, JobAnswer } from '#libs/contracts';
import { AgentQueues } from '#libs/dispatch';
import type { LifecycleService } from '#libs/lifecycle';
import { eventually } from '../../../test/support/fleet';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import { AttemptEnds } from './attempt-ends';
import { DagExecutor } from './dag-executor';
import { Janitor } from './janitor';

let life: LifecycleService;
let queues: AgentQueues;
let dag: DagExecutor;
let ends: AttemptEnds;
let janitor: Janitor;
useLife((rig) => ({ life } = rig));
beforeAll(() => {
  queues = new AgentQueues(life, { prefix: 'bull' });
  dag = new DagExecutor(life, queues);
  ends = new AttemptEnds(life, dag);
  janitor = new Janitor(life, queues, dag, ends, { intervalMs: 1, retentionMs: 60_000 });
});
afterAll(async () => queues.close());
beforeEach(async () => {
  await life.valkey.redis.flushall();
  const { redis, keys } = life.valkey;
  const rules = JSON.stringify([{ by: 'label.tenant', running: 2 }]);
  await redis.hset(keys.shard(keys.control, 'limits'), 'version', '1', 'set', rules);
  await life.slots.copy();
  life.valkey.scripts.calls.clear();
});

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
let running: number;
let most: number;
let ran: string[];

/** An agent that runs for a few turns of the event loop. */
async function run(job: AgentJob): Promise<JobAnswer> {
  const claim = await life.agents.claim(job, WORKER, `token-${job.agentId}`);
  if (!claim.claimed) return claim.limit === undefined ? 'done' : 'limited';
  most = Math.max(most, ++running);
  await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
  ran.push(job.agentId);
  running--;
  await ends.end(claim.fence, { state: 'completed' }, claim.node);
  return 'done';
}

async function submit(count: number, tenant: string): Promise<string> {
  const nodes = Array.from({ length: count }, (_, i) => node(`n${i}`));
  const id = await createExecution(life, spec(nodes, { labels: { tenant } }));
  await dag.drive(id);
  return id;
}
const jobs = async (): Promise<number> => life.valkey.redis.zcard('bull:belay-agents-default:prioritized');

describe('R35 attempts that wait for a limit', () => {
  beforeEach(() => {
    running = most = 0;
    ran = [];
  });

  it('is not in BullMQ, and each is claimed once with its slot: nothing spins', async () => {
    const id = await submit(60, 'acme');
    expect(await jobs()).toBe(2);
    expect(await life.slots.describe()).toMatchObject({ held: 0, waiting: 58 });
    const consumers = [1, 2, 3, 4].map(() => queues.consume('default', 4, run));
    await eventually(async () => (await life.executions.get(id)).state === 'completed', 'the end');
    await Promise.all(consumers.map(async (consumer) => consumer.close()));
    expect(new Set(ran).size).toBe(60);
    expect(ran).toHaveLength(60);
    expect(most).toBeLessThanOrEqual(2);
    const { calls } = life.valkey.scripts;
    // One claim that names the limits, one with the slot; and each woken attempt asks once.
    expect(calls.get('claimNode')).toBe(120);
    expect(calls.get('takeSlot')).toBe(60);
    expect(await life.slots.describe()).toMatchObject({ held: 0, waiting: 0 });
  });

  it('does not keep another tenant’s job behind it in the queue', async () => {
    await submit(300, 'big');
    await submit(1, 'small');
    expect(await jobs()).toBe(3);
    let last: string[] | undefined;
    const consumer = queues.consume('default', 1, async (job) => {
      const answer = await run(job);
      if (ran.length === 3) last ??= [...ran];
      return answer;
    });
    await eventually(() => last !== undefined, 'three agents');
    await consumer.close();
    const labels = await Promise.all(last!.map(async (id) => (await life.agents.get(id)).labels));
    expect(labels).toContainEqual({ tenant: 'small' });
  });

  it('and is refused at its claim goes on when its turn comes, also while its job is still in hand', async () => {
    const { redis, keys } = life.valkey;
    const key = keys.shard(keys.control, 'limits');
    // The attempt was handed over under other limits than those of the claim.
    await redis.hset(key, 'version', '2', 'set', '[]');
    await life.slots.copy();
    const id = await submit(6, 'acme');
    expect(await jobs()).toBe(6);
    await redis.hset(key, 'version', '3', 'set', JSON.stringify([{ by: 'fleet', running: 1 }]));
    await life.slots.copy();
    const consumer = queues.consume('default', 3, run);
    await eventually(async () => (await life.executions.get(id)).state === 'completed', 'the end');
    await consumer.close();
    expect(most).toBe(1);
    expect(ran).toHaveLength(6);
  });

  it('whose execution is stopped leave their place; the janitor finds those that are left', async () => {
    const stopped = await submit(10, 'acme');
    const other = await submit(1, 'acme');
    expect(await life.slots.describe()).toMatchObject({ waiting: 9 });
    await life.executions.stop(stopped, { reason: 'user_abort' });
    await dag.drive(stopped);
    expect(await life.slots.describe()).toMatchObject({ waiting: 1 });
    // The two that had a ticket and no place in the wait: their tickets lapse by themselves.
    await redisExpireTickets();
    await janitor.sweep();
    const consumer = queues.consume('default', 1, run);
    await eventually(async () => (await life.executions.get(other)).state === 'completed', 'the other');
    await consumer.close();
    await janitor.stop();
  });
});

describe('R35 limits that are lifted', () => {
  beforeEach(() => {
    running = most = 0;
    ran = [];
  });
  const lift = async (): Promise<void> => {
    const { redis, keys } = life.valkey;
    await redis.hset(keys.shard(keys.control, 'limits'), 'version', '2', 'set', '[]');
    await life.slots.copy();
  };

  it('let all go on that waits, by as many calls as its time allows', async () => {
    for (let i = 0; i < 4; i++) await submit(200, 'acme');
    expect(await jobs()).toBe(2);
    await lift();
    const passes: number[] = [];
    const wake = async (ms: number): Promise<void> => {
      for await (const woken of life.slots.sweeps(ms)) {
        passes.push(woken.length);
        await queues.dispatch(woken);
      }
    };
    await wake(0);
    expect(passes).toEqual([200]);
    await wake(60_000);
    expect(passes).toEqual([200, 200, 200, 198]);
    expect(await jobs()).toBe(800);
  });

  it('cost a cancelled attempt nothing', async () => {
    await lift();
    const id = await submit(3, 'acme');
    await life.executions.stop(id, { reason: 'user_abort' });
    await dag.drive(id);
    expect(await jobs()).toBe(0);
    expect(life.valkey.scripts.calls.get('freeSlots')).toBeUndefined();
  });
});

async function redisExpireTickets(): Promise<void> {
  const { redis, keys } = life.valkey;
  await redis.del(keys.shard(keys.control, 'lim:tickets:label.tenant=acme'));
}
