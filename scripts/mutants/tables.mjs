// State tables, settings, errors, selectors, the shapes of contracts.
import { unit } from './define.mjs';

const STATES = 'libs/contracts/src/states.ts';
const TABLE_TESTS = 'libs/contracts/src/state-machine';
const FENCING = 'libs/contracts/src/settings/check-fencing.ts';
const SETTINGS = 'libs/contracts/src/settings/settings';

export const TABLES = [
  unit(
    'table-execution-reopen',
    'a completed execution may run again',
    STATES,
    "    failed: { running: 'retry (epoch + 1)' },\n    completed: {},",
    "    failed: { running: 'retry (epoch + 1)' },\n    completed: { running: 'again' },",
    TABLE_TESTS,
  ),
  unit(
    'table-execution-pause-from-idle',
    'an idle execution may be paused',
    STATES,
    "idle: { running: 'start', stopped: 'stop before start' },",
    "idle: { running: 'start', paused: 'pause', stopped: 'stop before start' },",
    TABLE_TESTS,
  ),
  unit(
    'table-agent-skips-running',
    'an agent completes that never ran',
    STATES,
    "      running: 'its process started',",
    "      running: 'its process started',\n      completed: 'exit 0',",
    TABLE_TESTS,
  ),
  unit(
    'table-node-cancel',
    'a ready node cannot be cancelled',
    STATES,
    "      running: 'claimed by a worker',\n      cancelled: 'the execution stops',",
    "      running: 'claimed by a worker',",
    TABLE_TESTS,
  ),
  unit(
    'settings-fencing-equal',
    'a fence that ends with the lease is accepted',
    FENCING,
    'if (sum >= leaseTtlMs) {',
    'if (sum > leaseTtlMs) {',
    SETTINGS,
  ),
  unit(
    'settings-fencing-slack',
    'the slack is left out of the sum',
    FENCING,
    'const sum = fenceAfterMs + fenceGraceMs + FENCE_KILL_MS + FENCE_SLACK_MS;',
    'const sum = fenceAfterMs + fenceGraceMs + FENCE_KILL_MS;',
    SETTINGS,
  ),
  unit(
    'settings-fence-grace',
    'grace is not capped while a worker fences itself',
    FENCING,
    'return Math.min(graceMs, Math.floor(leaseTtlMs * GRACE_SHARE));',
    'return graceMs + leaseTtlMs * 0;',
    SETTINGS,
  ),
  unit(
    'settings-heartbeats',
    'one late heartbeat fences a worker',
    FENCING,
    'if (fenceAfterMs < least) {',
    'if (fenceAfterMs < least - heartbeatMs) {',
    SETTINGS,
  ),
  unit(
    'retry-counts',
    'one attempt too many',
    'libs/executions/src/retry-policy.ts',
    'if (attempt >= node.maxAttempts) return undefined;',
    'if (attempt > node.maxAttempts) return undefined;',
    'libs/executions/src/retry-policy',
  ),
  unit(
    'retry-prior-attempts',
    'a retry by hand does not start the count anew',
    'libs/executions/src/retry-policy.ts',
    'const attempt = attemptEver - (node.priorAttempts ?? 0);',
    'const attempt = attemptEver;',
    'libs/executions/src/retry-policy',
  ),
  unit(
    'retry-never',
    'what another attempt cannot mend is tried again',
    'libs/executions/src/retry-policy.ts',
    'if (error !== undefined && NEVER_RETRIED.has(error.code)) return undefined;',
    '',
    'libs/executions/src/retry-policy',
  ),
  unit(
    'retry-cap',
    'backoff grows without a cap',
    'libs/executions/src/retry-policy.ts',
    'const capped = Math.min(grown, policy.maxMs);',
    'const capped = grown;',
    'libs/executions/src/retry-policy',
  ),
  unit(
    'retry-recovery-off',
    'recovery.auto off is not heeded',
    'libs/executions/src/retry-policy.ts',
    'if (!recovery.auto)',
    'if (recovery.auto === undefined)',
    'libs/executions/src/retry-policy',
  ),
];
