import { Gauge, type Registry } from 'prom-client';

/** The number of clients that follow events or logs at this orchestrator. */
export function measureStreams(registry: Registry, of: { readonly openStreams: number }): void {
  void new Gauge({
    name: 'belay_event_streams',
    help: 'Clients that follow events or logs at this orchestrator',
    registers: [registry],
    collect() {
      this.set(of.openStreams);
    },
  });
}
