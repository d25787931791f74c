import { Counter, type Registry } from 'prom-client';
import { REFUSAL_REASONS, type RefusalReason } from '../http/request-rates';

/** Counts the requests that were refused for their rate. No label names a token: there may be any number of them. */
export function countRefusals(registry: Registry): (reason: RefusalReason) => void {
  const refused = new Counter({
    name: 'belay_requests_refused_total',
    help: 'Requests refused with 429: token_rate (a token beyond its rate), wrong_tokens (too many from that address)',
    labelNames: ['reason'],
    registers: [registry],
  });
  for (const reason of REFUSAL_REASONS) refused.inc({ reason }, 0);
  return (reason) => refused.inc({ reason });
}
