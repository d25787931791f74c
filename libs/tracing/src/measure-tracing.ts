import { Counter, type Registry } from 'prom-client';
import type { Tracing } from './tracing';

/** The spans of this process, for /metrics. */
export function measureTracing(registry: Registry, { exporter }: Pick<Tracing, 'exporter'>): void {
  const registers = [registry];
  void new Counter({
    name: 'belay_trace_spans_sent_total',
    help: 'Spans that the collector took',
    registers,
    collect() {
      this.reset();
      this.inc(exporter.sent);
    },
  });
  void new Counter({
    name: 'belay_trace_spans_dropped_total',
    help: 'Spans that were lost: the collector did not take them, or too many waited',
    registers,
    collect() {
      this.reset();
      this.inc(exporter.dropped);
    },
  });
}
