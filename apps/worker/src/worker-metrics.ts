import type { KillResponder } from '#libs/killswitch';
import type { AgentRunner, AgentSlots, ProcessHost } from '#libs/spawner';
import type { SideTasks } from '#libs/worker';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Observable } from 'rxjs';

/** From about two milliseconds to a long grace. Seconds. */
const BUCKETS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10, 30];

/** The parts of one worker that are measured. */
export interface MeasuredParts {
  readonly responder: KillResponder;
  readonly runner: AgentRunner;
  readonly agents: AgentSlots;
  readonly host: ProcessHost;
  readonly beside: SideTasks;
  /** How long each acknowledged heartbeat took, in milliseconds. */
  readonly renewed$: Observable<number>;
  readonly closedPools: () => number;
}

/** Orders, heartbeats and side tasks of one worker, for /metrics. */
export function workerMetrics({
  responder,
  runner,
  agents,
  host,
  beside,
  renewed$,
  closedPools,
}: MeasuredParts): Registry {
  const registers = [new Registry()];
  const [registry] = registers as [Registry];
  const latency = (what: string, help: string) =>
    new Histogram({
      name: `belay_kill_asked_to_${what}_seconds`,
      help,
      labelNames: ['mode'],
      buckets: BUCKETS,
      registers,
    });
  const signalled = latency('signalled', 'From the placing of an order to the first signal to a target');
  const firstExit = latency('first_exit', 'From the placing of an order to the first exit of a target');
  const proved = latency('proved', 'From the placing of an order to the proof that a target is dead');
  const counter = (name: string, help: string, labelNames: string[] = []) =>
    new Counter({ name, help, labelNames, registers });
  const targets = counter('belay_order_targets_total', 'Targets dealt with, by kind of order and outcome', [
    'kind',
    'outcome',
  ]);
  const escalations = counter('belay_kill_escalations_total', 'Targets that needed SIGKILL');
  const survivors = counter(
    'belay_kill_survivors_total',
    'Processes still seen alive when a stop gave up for the moment',
  );
  const unconfirmed = counter(
    'belay_kill_unconfirmed_total',
    'Reports that a target could not be proved dead yet',
  );

  responder.served$.subscribe(({ order, target }) => {
    targets.inc({ kind: order.kind, outcome: target.outcome });
    if (order.kind !== 'kill') return;
    const { latency: after, report } = target;
    const observe = (histogram: Histogram, ms: number | undefined): void => {
      if (ms !== undefined) histogram.observe({ mode: order.mode }, ms / 1_000);
    };
    observe(signalled, after?.signalledMs);
    observe(firstExit, after?.firstExitMs);
    if (report?.proved === true) observe(proved, after?.provedMs);
    if (report?.escalated === true) escalations.inc();
    survivors.inc(report?.survivors.length ?? 0);
    if (target.outcome === 'unconfirmed') unconfirmed.inc();
  });

  const heartbeats = new Histogram({
    name: 'belay_worker_heartbeat_seconds',
    help: 'From the sending of a heartbeat to its answer',
    buckets: BUCKETS,
    registers,
  });
  renewed$.subscribe((tookMs) => heartbeats.observe(tookMs / 1_000));
  const sideRuns = new Histogram({
    name: 'belay_worker_side_task_seconds',
    help: 'Runs of the tasks beside the heartbeat, by task and end of the run (done, failed, overran)',
    labelNames: ['task', 'end'],
    buckets: BUCKETS,
    registers,
  });
  beside.runs$.subscribe(({ task, end, tookMs }) => sideRuns.observe({ task, end }, tookMs / 1_000));

  const gauge = (name: string, help: string, read: () => number): void =>
    void new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge('belay_worker_agents', 'Attempts under way', () => agents.busy);
  gauge('belay_worker_refused_claims', 'Claims a latch refused since the start', () => runner.refused);
  gauge(
    'belay_worker_orders_caught_up',
    'Targets stopped by orders whose doorbell was missed, since the start',
    () => responder.caughtUp,
  );
  gauge('belay_worker_orders_watched', 'Orders seen that may still be open', () => responder.watching);
  gauge('belay_worker_guardian_restarts', 'Guardians started because one died', () => host.guardianRestarts);
  gauge(
    'belay_worker_output_waits',
    'Times output was left in pipes because agents wrote too fast, since the start',
    () => host.outputWaits,
  );
  void new Gauge({
    name: 'belay_worker_dropped',
    help: 'Messages and output of agents dropped beyond their bounds since the start, by kind',
    labelNames: ['what'],
    registers,
    collect() {
      for (const [what, count] of Object.entries(runner.dropped)) this.set({ what }, count);
    },
  });
  gauge('belay_worker_closed_pools', 'Queues not served because of a latch or a freeze', closedPools);
  return registry;
}
