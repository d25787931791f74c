import { AGENT_MACHINE, EXECUTION_MACHINE, statesOf, type BelayEvent } from '#libs/contracts';
import type { DrillService, KillswitchService } from '#libs/killswitch';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import { Counter, Gauge, Registry } from 'prom-client';

/** Events that this process counts since its start; each orchestrator gets all of them. */
const COUNTED = [
  'order.open',
  'order.complete',
  'order.incomplete',
  'order.unconfirmed',
  'order.closed',
  'latch.engaged',
  'latch.approved',
  'latch.released',
  'drill.passed',
  'drill.failed',
] as const;

/** Metrics of the fleet and of orders, for /metrics. Gauges are read on request. */
export function orchestratorMetrics(
  lifecycle: LifecycleService,
  killswitch: KillswitchService,
  drills: DrillService,
  feed: ChangeFeed,
  drillMaxAgeMs: number | undefined,
): Registry {
  const registry = new Registry();
  const registers = [registry];
  const events = new Counter({
    name: 'belay_killswitch_events_total',
    help: 'Orders, latches and drills, by event; order.unconfirmed and drill.failed are alarms',
    labelNames: ['event'],
    registers,
  });
  for (const event of COUNTED) events.inc({ event }, 0);
  const counted = new Set<string>(COUNTED);
  feed.events$.subscribe(({ type }: BelayEvent) => {
    if (counted.has(type)) events.inc({ event: type });
  });

  const executions = new Gauge({
    name: 'belay_executions',
    help: 'Executions kept, by state',
    labelNames: ['state'],
    registers,
    async collect() {
      for (const state of statesOf(EXECUTION_MACHINE))
        this.set({ state }, await lifecycle.executions.countIn(state));
    },
  });
  void executions;
  void new Gauge({
    name: 'belay_agents',
    help: 'Agents not yet ended, by state',
    labelNames: ['state'],
    registers,
    async collect() {
      for (const state of statesOf(AGENT_MACHINE))
        if (!AGENT_MACHINE.ended.includes(state)) this.set({ state }, await lifecycle.agents.countIn(state));
    },
  });
  void new Gauge({
    name: 'belay_agents_unproved',
    help: 'Agents lost with their worker that nobody has seen dead: they may still run',
    registers,
    async collect() {
      this.set(await lifecycle.agents.countUnproved());
    },
  });
  void new Gauge({
    name: 'belay_latches',
    help: 'Engaged latches and freezes',
    labelNames: ['kind'],
    registers,
    async collect() {
      const latches = await killswitch.latches.list();
      for (const kind of ['latch', 'freeze'] as const)
        this.set({ kind }, latches.filter((latch) => latch.kind === kind).length);
    },
  });
  void new Gauge({
    name: 'belay_quarantined_records',
    help: 'Stored records that cannot be read; look with: belay quarantine',
    registers,
    async collect() {
      this.set(await lifecycle.valkey.quarantine.count());
    },
  });
  void new Gauge({
    name: 'belay_orders_open',
    help: 'Orders whose receipt is not complete',
    registers,
    async collect() {
      this.set((await killswitch.orders.open()).length);
    },
  });
  void new Gauge({
    name: 'belay_drill_overdue',
    help: '1 for a running worker that has not passed a drill for too long (only with BELAY_DRILL_CRON)',
    labelNames: ['worker'],
    registers,
    async collect() {
      this.reset();
      for (const { workerId, overdue } of await drills.status(drillMaxAgeMs))
        this.set({ worker: workerId }, overdue ? 1 : 0);
    },
  });
  return registry;
}
