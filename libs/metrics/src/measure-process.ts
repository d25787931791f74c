import type { LifecycleService } from '#libs/lifecycle';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** A timer of this length measures how late the event loop is. It wakes an idle process four times a second. Milliseconds. */
const LOOP_LOOK_MS = 250;
/** In seconds. */
const LAG_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

/**
 * Measures a service itself: its calls to the state server, its connections there, and how late its event loop is
 * (docs/http-api.md#metrics). Returns a function that ends the measuring.
 */
export function measureProcess(registry: Registry, { valkey }: LifecycleService): () => void {
  const registers = [registry];
  void new Counter({
    name: 'belay_valkey_script_calls_total',
    help: 'Calls of a script of the state server, by script',
    labelNames: ['script'],
    registers,
    collect() {
      this.reset();
      for (const [script, calls] of valkey.scripts.calls) this.inc({ script }, calls);
    },
  });
  void new Counter({
    name: 'belay_valkey_script_seconds_total',
    help: 'Time from the call of a script to its answer, tries after a lost connection included, by script',
    labelNames: ['script'],
    registers,
    collect() {
      this.reset();
      for (const [script, ms] of valkey.scripts.tookMs) this.inc({ script }, ms / 1_000);
    },
  });
  void new Gauge({
    name: 'belay_valkey_connections',
    help: 'Connections to the state server that are open or being opened',
    registers,
    collect() {
      this.set(valkey.connections.count);
    },
  });
  void new Counter({
    name: 'belay_valkey_reconnects_total',
    help: 'Connections to the state server that were lost and are opened again',
    registers,
    collect() {
      this.reset();
      this.inc(valkey.connections.reconnects);
    },
  });
  const lag = new Histogram({
    name: 'belay_event_loop_lag_seconds',
    help: `How late a timer of ${LOOP_LOOK_MS} ms was`,
    buckets: LAG_BUCKETS,
    registers,
  });
  let due = performance.now() + LOOP_LOOK_MS;
  const timer = setInterval(() => {
    const now = performance.now();
    lag.observe(Math.max(0, now - due) / 1_000);
    due = now + LOOP_LOOK_MS;
  }, LOOP_LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
