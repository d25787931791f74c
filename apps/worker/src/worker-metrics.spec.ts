import type { Order, TargetReceipt } from '#libs/contracts';
import type { OrderServed } from '#libs/killswitch';
import { Subject } from 'rxjs';
import { workerMetrics, type MeasuredParts } from './worker-metrics';

const served = new Subject<OrderServed>();
const renewed = new Subject<number>();
const runs = new Subject<{ task: string; end: string; tookMs: number }>();
const registry = workerMetrics({
  responder: { served$: served, caughtUp: 2, watching: 3 },
  runner: { refused: 5, dropped: { events: 6 } },
  agents: { busy: 4 },
  host: { guardianRestarts: 7, outputWaits: 8 },
  beside: { runs$: runs },
  renewed$: renewed,
  closedPools: () => 9,
} as unknown as MeasuredParts);

const report = { proved: true, escalated: true, survivors: [{ pid: 1, startTime: '1' }] };
const serve = (kind: Order['kind'], target: object, mode: Order['mode'] = 'graceful'): void =>
  served.next({ order: { kind, mode } as Order, target: target as TargetReceipt });

/** The lines of one metric, without its HELP and TYPE. */
async function lines(name: string): Promise<string[]> {
  const text = await registry.metrics();
  return text.split('\n').filter((line) => line.startsWith(name));
}

describe('R55 a worker’s measurements', () => {
  it('is how long a kill took from its placing to the first signal, the first exit and the proof, by mode', async () => {
    const latency = { signalledMs: 3, firstExitMs: 40, provedMs: 70 };
    serve('kill', { outcome: 'killed', latency, report });
    serve('kill', { outcome: 'killed', latency: { provedMs: 4_000 }, report }, 'immediate');
    // Not dead yet, so there is no proof to time.
    serve('kill', { outcome: 'unconfirmed', latency, report: { ...report, proved: false } });
    serve('freeze', { outcome: 'frozen', latency, report });
    const name = 'belay_kill_asked_to';
    for (const [what, seconds, count] of [
      ['signalled', 0.006, 2],
      ['first_exit', 0.08, 2],
      ['proved', 0.07, 1],
    ] as const) {
      const [sum] = await lines(`${name}_${what}_seconds_sum{mode="graceful"}`);
      expect(Number(sum?.split(' ')[1])).toBeCloseTo(seconds);
      expect(await lines(`${name}_${what}_seconds_count{mode="graceful"}`)).toEqual([
        `${name}_${what}_seconds_count{mode="graceful"} ${count}`,
      ]);
    }
    expect(await lines(`${name}_signalled_seconds_bucket{le="0.002",mode="graceful"}`)).toEqual([
      `${name}_signalled_seconds_bucket{le="0.002",mode="graceful"} 0`,
    ]);
    expect(await lines(`${name}_signalled_seconds_bucket{le="0.005",mode="graceful"}`)).toEqual([
      `${name}_signalled_seconds_bucket{le="0.005",mode="graceful"} 2`,
    ]);
    expect(await lines(`${name}_proved_seconds_sum{mode="immediate"}`)).toEqual([
      `${name}_proved_seconds_sum{mode="immediate"} 4`,
    ]);
    expect(await lines('belay_order_targets_total')).toEqual([
      'belay_order_targets_total{kind="kill",outcome="killed"} 2',
      'belay_order_targets_total{kind="kill",outcome="unconfirmed"} 1',
      'belay_order_targets_total{kind="freeze",outcome="frozen"} 1',
    ]);
    expect(await lines('belay_kill_escalations_total')).toEqual(['belay_kill_escalations_total 3']);
    expect(await lines('belay_kill_survivors_total')).toEqual(['belay_kill_survivors_total 3']);
    expect(await lines('belay_kill_unconfirmed_total')).toEqual(['belay_kill_unconfirmed_total 1']);
  });

  it('show each heartbeat, the side tasks, and the present state', async () => {
    renewed.next(12);
    runs.next({ task: 'orders', end: 'overran', tookMs: 5_000 });
    expect(await lines('belay_worker_heartbeat_seconds_sum')).toEqual([
      'belay_worker_heartbeat_seconds_sum 0.012',
    ]);
    expect(await lines('belay_worker_side_task_seconds_sum')).toEqual([
      'belay_worker_side_task_seconds_sum{task="orders",end="overran"} 5',
    ]);
    const now = {
      agents: 4,
      refused_claims: 5,
      orders_caught_up: 2,
      orders_watched: 3,
      guardian_restarts: 7,
      output_waits: 8,
      closed_pools: 9,
    };
    for (const [name, value] of Object.entries(now))
      expect(await lines(`belay_worker_${name} `)).toEqual([`belay_worker_${name} ${value}`]);
    expect(await lines('belay_worker_dropped')).toEqual(['belay_worker_dropped{what="events"} 6']);
  });
});
