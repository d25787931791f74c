import type { BelayEvent } from '#libs/contracts';
import type { ChangeFeed } from '#libs/valkey';
import type { LifecycleService } from '#libs/lifecycle';
import { Registry } from 'prom-client';
import { Subject } from 'rxjs';
import { advanceAll, createExecution, node, spec, startNext, useLife } from '../../../../test/support/life';
import { measureWork } from './measure-work';

let life: LifecycleService;
useLife((rig) => ({ life } = rig));

const events = new Subject<BelayEvent>();
let registry: Registry;
beforeEach(() => {
  registry = new Registry();
  measureWork(registry, life, { events$: events } as unknown as ChangeFeed);
});
/** The lines of one metric. */
async function lines(name: string): Promise<string[]> {
  return (await registry.metrics())
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
}
const hear = (event: Partial<BelayEvent>): void =>
  events.next({ id: '1', seq: 1, type: 'x', entity: 'agent', at: life.valkey.clock.now(), ...event });

describe('R67 an orchestrator’s measurements of the fleet’s work', () => {
  it('count starts and ends by reason, and lost leases', async () => {
    hear({ entity: 'execution', from: 'idle', to: 'running' });
    hear({ entity: 'execution', from: 'paused', to: 'running' });
    hear({ from: 'spawning', to: 'running' });
    hear({ from: 'running', to: 'killed', reason: 'killswitch' });
    hear({ from: 'running', to: 'failed', reason: 'worker_lost' });
    hear({ from: 'running', to: 'failed', reason: 'made up by somebody' });
    hear({ entity: 'execution', from: 'stopping', to: 'stopped', reason: 'budget_exceeded' });
    hear({ entity: 'worker', from: 'running', to: 'stopped', reason: 'worker_lost' });
    hear({ entity: 'worker', from: 'draining', to: 'stopped' });
    // A report that changes no state.
    hear({ type: 'agent.progress' });
    expect(await lines('belay_starts_total')).toEqual([
      'belay_starts_total{entity="agent"} 1',
      'belay_starts_total{entity="execution"} 1',
    ]);
    expect(await lines('belay_ends_total')).toEqual([
      'belay_ends_total{entity="agent",state="killed",reason="killswitch"} 1',
      'belay_ends_total{entity="agent",state="failed",reason="worker_lost"} 1',
      'belay_ends_total{entity="agent",state="failed",reason="other"} 1',
      'belay_ends_total{entity="execution",state="stopped",reason="budget_exceeded"} 1',
    ]);
    expect(await lines('belay_leases_lost_total')).toEqual(['belay_leases_lost_total 1']);
  });

  it('is how late events are heard, by the server’s clock', async () => {
    hear({ at: life.valkey.clock.now() - 300 });
    hear({ at: life.valkey.clock.now() + 60_000 });
    const [sum] = await lines('belay_event_lag_seconds_sum');
    expect(Number(sum?.split(' ')[1])).toBeGreaterThanOrEqual(0.3);
    expect(Number(sum?.split(' ')[1])).toBeLessThan(30);
    expect(await lines('belay_event_lag_seconds_count')).toEqual(['belay_event_lag_seconds_count 2']);
  });

  it('leave out an event without a time: the answer to armed has none, and anybody may send a message', async () => {
    for (const at of [undefined, 'soon', NaN, null])
      hear({ type: 'worker.armed', entity: 'worker', at: at as never });
    expect(await lines('belay_event_lag_seconds_count')).toEqual(['belay_event_lag_seconds_count 0']);
  });

  it('show the waiting attempts of each pool, how long they have waited, and the memory of the server', async () => {
    const { redis, keys } = life.valkey;
    await redis.flushall();
    const id = await createExecution(
      life,
      spec([node('a'), node('b'), node('c', { pool: 'gpu', delayMs: 60_000 })]),
    );
    await startNext(life, id);
    await advanceAll(life, id);
    const wait = keys.shard(keys.tagOf(id), 'wait:default');
    const [member] = await redis.zrange(wait, '0', '0');
    await redis.zincrby(wait, -90_000, member as string);
    expect(await lines('belay_queue_attempts')).toEqual([
      'belay_queue_attempts{pool="default",state="waiting"} 1',
      'belay_queue_attempts{pool="default",state="delayed"} 0',
      'belay_queue_attempts{pool="default",state="active"} 1',
      'belay_queue_attempts{pool="gpu",state="waiting"} 0',
      'belay_queue_attempts{pool="gpu",state="delayed"} 1',
      'belay_queue_attempts{pool="gpu",state="active"} 0',
    ]);
    const [oldest, none] = await lines('belay_queue_oldest_seconds');
    expect(Number(oldest?.split(' ')[1])).toBeGreaterThanOrEqual(90);
    expect(none).toBe('belay_queue_oldest_seconds{pool="gpu"} 0');
    const [bytes] = await lines('belay_valkey_used_bytes');
    expect(Number(bytes?.split(' ')[1])).toBeGreaterThan(100_000);
  });
});
