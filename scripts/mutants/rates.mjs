// The bounds on requests.
import { real, unit } from './define.mjs';

export const RATES = [
  real(
    'rate-stops',
    'a stop is refused for the rate of its token',
    'apps/orchestrator/src/http/request-gate.ts',
    'const stops = rule !== undefined && isStopping(rule);',
    'const stops = rule === undefined && isStopping({ needs: "view" });',
    'integration/rate-limits',
    'R82 is none for stops',
  ),
  unit(
    'rate-burst',
    'a rate that rested lets through more than its burst',
    'apps/orchestrator/src/http/rate-bucket.ts',
    'Math.min(this.burst, this.left + regained)',
    'this.left + regained',
    'apps/orchestrator/src/http/rate-bucket',
    'R65',
  ),
  unit(
    'rate-wrong-tokens',
    'any number of wrong tokens is looked up',
    'apps/orchestrator/src/http/request-rates.ts',
    'bucket.take();',
    'bucket.waitMs();',
    'apps/orchestrator/src/http/request-rates',
    'R65',
  ),
];
