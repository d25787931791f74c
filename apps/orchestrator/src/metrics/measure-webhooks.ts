import type { Webhooks } from '#libs/webhooks';
import { Counter, type Registry } from 'prom-client';

/** The tries of this orchestrator to deliver webhooks; the file bounds the number of endpoints. */
export function measureWebhooks(registry: Registry, { tries$ }: Pick<Webhooks, 'tries$'>): void {
  const tries = new Counter({
    name: 'belay_webhook_tries_total',
    help: 'Tries to deliver a webhook: delivered, retried (failed, another try follows) or failed (for good)',
    labelNames: ['endpoint', 'result'],
    registers: [registry],
  });
  tries$.subscribe((one) => tries.inc({ ...one }));
}
