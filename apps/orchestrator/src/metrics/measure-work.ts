import { isEnded, MACHINES, STOP_REASONS, type BelayEvent, type StateMachine } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** At most this many pools get a series each, the first by name. */
const MOST_POOLS = 100;

/** In seconds. A late event has waited for this process, for the server, or for a connection that was lost. */
const LAG_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30];

const REASONS: ReadonlySet<string> = new Set(STOP_REASONS);

/**
 * The work of the fleet (docs/http-api.md#metrics): starts and ends by reason, lost leases, waiting attempts, the lag of
 * events. Each orchestrator gets every event and counts those since its own start: use one of them, or the highest, not the
 * sum.
 */
export function measureWork(registry: Registry, lifecycle: LifecycleService, feed: ChangeFeed): void {
  countEvents(registry, lifecycle, feed);
  const registers = [registry];
  void new Gauge({
    name: 'belay_queue_attempts',
    help: `Attempts of a pool: waiting (may be claimed), delayed (retry, delay), active (claimed); the first ${MOST_POOLS} pools by name`,
    labelNames: ['pool', 'state'],
    registers,
    async collect() {
      this.reset();
      for (const { pool, waiting, delayed, active } of (await lifecycle.pools.counts()).slice(0, MOST_POOLS))
        for (const [state, count] of Object.entries({ waiting, delayed, active }))
          this.set({ pool, state }, count);
    },
  });
  void new Gauge({
    name: 'belay_queue_oldest_seconds',
    help: 'How long the oldest claimable attempt of a pool has waited; 0 if none waits',
    labelNames: ['pool'],
    registers,
    async collect() {
      this.reset();
      for (const { pool, oldestMs = 0 } of (await lifecycle.pools.counts()).slice(0, MOST_POOLS))
        this.set({ pool }, oldestMs / 1_000);
    },
  });
  void new Gauge({
    name: 'belay_valkey_used_bytes',
    help: 'Memory used by the server of the control keys; absent if it does not report it',
    registers,
    async collect() {
      this.reset();
      const { memory, keys } = lifecycle.valkey;
      const look = await memory.at(keys.shard(keys.control, 'leases'));
      if (look !== undefined) this.set(look.usedBytes);
    },
  });
}

function countEvents(registry: Registry, { valkey }: LifecycleService, feed: ChangeFeed): void {
  const registers = [registry];
  const started = new Counter({
    name: 'belay_starts_total',
    help: 'Agents and executions that started, as seen by this process',
    labelNames: ['entity'],
    registers,
  });
  const ended = new Counter({
    name: 'belay_ends_total',
    help: 'Agents and executions that ended, by state and by the reason of their stop, as seen by this process',
    labelNames: ['entity', 'state', 'reason'],
    registers,
  });
  const leases = new Counter({
    name: 'belay_leases_lost_total',
    help: 'Workers whose lease ran out, as seen by this process',
    registers,
  });
  const lag = new Histogram({
    name: 'belay_event_lag_seconds',
    help: 'From the storing of an event, by the server’s clock, to its arrival in this process',
    buckets: LAG_BUCKETS,
    registers,
  });
  for (const entity of ['agent', 'execution']) started.inc({ entity }, 0);
  feed.events$.subscribe(({ entity, to, from, reason, at }: BelayEvent) => {
    // A histogram throws for a value that is no number, and no code would catch that. Anybody may have sent the message.
    if (Number.isFinite(at)) lag.observe(Math.max(0, valkey.clock.now() - at) / 1_000);
    if (entity === 'worker' && to === 'stopped' && reason === 'worker_lost') leases.inc();
    if ((entity !== 'agent' && entity !== 'execution') || to === undefined) return;
    const machine = MACHINES[entity] as StateMachine<string>;
    // A resumed execution runs again, but does not begin.
    if (to === 'running' && from !== 'paused') started.inc({ entity });
    if (isEnded(machine, to)) ended.inc({ entity, state: to, reason: reasonOf(reason) });
  });
}

/** A label has few values: an unknown reason counts as other. */
function reasonOf(reason: string | undefined): string {
  if (reason === undefined) return 'none';
  return REASONS.has(reason) ? reason : 'other';
}
