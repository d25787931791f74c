// Workers and the killswitch: orders, doorbells, receipts, histograms, fencing, ends.
import { unit } from './define.mjs';

const RESPONDER = 'libs/killswitch/src/kill-responder.ts';
const REPORTS = 'libs/killswitch/src/target-reports.ts';
const CLAIMS = 'libs/spawner/src/attempt-claims.ts';
const ATTEMPT = 'libs/spawner/src/attempt.ts';
const OUTCOME = 'libs/spawner/src/agent-outcome.ts';

export const KILLS = [
  unit(
    'kill-before-spawn',
    'what is claimed while a wide kill is open is spawned',
    RESPONDER,
    'if (orders.length === 0) return undefined;',
    'return undefined;',
    'libs/killswitch/src/kill-responder',
  ),
  unit(
    'kill-began-after',
    'a wide kill reaches what began after it',
    RESPONDER,
    '(this.covers(order, slot) && before(slot)) ||',
    'this.covers(order, slot) ||',
    'libs/killswitch/src/kill-responder',
  ),
  unit(
    'kill-catch-up',
    'a subscription is not followed by a look at the log',
    RESPONDER,
    'this.subscriber.subscribed$.subscribe(() => void this.catchUp()),',
    '',
    'libs/killswitch/src/kill-responder',
  ),
  unit(
    'kill-unconfirmed',
    'an end without proof is told as killed',
    REPORTS,
    "!confirmed ? 'unconfirmed' : killed ? 'killed' : 'already-ended'",
    "killed || !confirmed ? 'killed' : 'already-ended'",
    'libs/killswitch/src/kill-responder',
  ),
  unit(
    'histogram-proved',
    'asked → proved dead is always zero',
    REPORTS,
    'const provedMs = since(report.provedAfterMs);',
    'const provedMs = report.provedAfterMs === undefined ? undefined : 0;',
    'libs/killswitch/src/kill-responder',
  ),
  unit(
    'histogram-signalled',
    'asked → signalled is left out',
    REPORTS,
    'const signalledMs = since(report.signalledAfterMs);',
    'const signalledMs = undefined as number | undefined;',
    'libs/killswitch/src/kill-responder',
  ),
  unit(
    'histogram-unfilled',
    'asked → first exit is never observed',
    'apps/worker/src/worker-metrics.ts',
    'observe(firstExit, after?.firstExitMs);',
    '',
    'apps/worker/src/worker-metrics',
  ),
  unit(
    'run-two-copies',
    'a claim that is granted twice runs two copies',
    CLAIMS,
    'if (claim?.claimed !== true || copies.length === 0) return claim;',
    'return claim;',
    'libs/spawner/src/agent-runner',
    'failover lost',
  ),
  unit(
    'run-after-lease',
    'what waited past the lease is started',
    ATTEMPT,
    'if (leaseLeftMs(options) <= 0) slot.stop(LEASE_OVER, 0);',
    '',
    'libs/spawner/src/agent-runner',
  ),
  unit(
    'run-stopped',
    'what was stopped before its start is started',
    ATTEMPT,
    'if (slot.cause !== undefined) return this.store(notStarted(slot.cause));',
    '',
    'libs/spawner/src/agent-runner',
  ),
  unit(
    'run-stop-in-announce',
    'a stop that began during the start is not heard',
    ATTEMPT,
    'if (stopping === true && slot.cause === undefined) {',
    'if (false as boolean) {',
    'libs/spawner/src/agent-runner',
  ),
  unit(
    'end-before-signal',
    'every end with a cause is the cause’s',
    OUTCOME,
    'if (cause !== undefined && (fenced || exit.report.signals.length > 0))',
    'if (cause !== undefined)',
    'libs/spawner/src/agent-runner',
  ),
  unit(
    'end-exit-code',
    'any exit code completes',
    OUTCOME,
    'if (exit.exitCode === 0) {',
    'if (exit.exitCode !== null) {',
    'libs/spawner/src/agent-runner',
  ),
  unit(
    'end-fenced',
    'an end by the fence is an end of its own',
    ATTEMPT,
    "report.signals.length === 0 && exit.signal === 'SIGKILL' && wasSilent?.() === true;",
    'false as boolean;',
    'libs/spawner/src/agent-runner',
  ),
  unit(
    'runner-timeout',
    'a node has no timeout',
    ATTEMPT,
    'if (timeoutMs === undefined) return undefined;',
    'if (timeoutMs !== 0) return undefined;',
    'libs/spawner/src/agent-runner',
  ),
];
