import type { Scope } from '#libs/contracts';
import { cleanText } from '../text/clean-text';

/** `everything`, `pool gpu`, `labels team=data`, `worker wrk_…`, `execution exe_…`, `agent agt_…`. */
export function describeScope(scope: Scope): string {
  switch (scope.type) {
    case 'all':
      return 'everything';
    case 'pool':
      return `pool ${cleanText(scope.pool)}`;
    case 'selector':
      return `labels ${cleanText(scope.selector)}`;
    case 'worker':
      return `worker ${scope.workerId}`;
    case 'execution':
      return `execution ${scope.executionId}`;
    case 'agent':
      return `agent ${scope.agentId}`;
  }
}
