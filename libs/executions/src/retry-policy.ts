import type { BackoffPolicy, NodeSpec, StopReason } from '#libs/contracts';
import type { AgentOutcome } from '#libs/lifecycle';

/**
 * Why a lost attempt is not retried automatically; undefined when it may be (docs/recovery.md#rules). `awayMs`: the time since
 * its worker was last heard of.
 */
export function recoveryRefusal(
  { recovery }: Pick<NodeSpec, 'recovery'>,
  awayMs: number,
): { readonly code: 'RECOVERY_OFF' | 'RECOVERY_TOO_LATE'; readonly message: string } | undefined {
  if (!recovery.auto)
    return {
      code: 'RECOVERY_OFF',
      message: 'its spec has recovery.auto off, so it is not tried again by itself',
    };
  if (recovery.withinMs === undefined || awayMs <= recovery.withinMs) return undefined;
  return {
    code: 'RECOVERY_TOO_LATE',
    message: `it was away for ${awayMs} ms, longer than its recovery.withinMs of ${recovery.withinMs}, so it is not tried again by itself`,
  };
}

/** Errors that another attempt cannot mend (docs/spec.md#fields). */
const NEVER_RETRIED = new Set([
  'ENOENT',
  'EACCES',
  'BAD_CWD',
  'BAD_COMMAND',
  'BAD_ENV',
  'E2BIG',
  'RESULT_TOO_LARGE',
  'UPSTREAM_TOO_LARGE',
  'UNKNOWN_HANDLER',
  'HANDLER_MODULE',
  'INPUT_MISMATCH',
  'RESULT_MISMATCH',
  'RESULT_NOT_JSON',
  'STEP_UNDECIDED',
  'UNRECOVERABLE',
]);

/** Milliseconds before attempt `attempt + 1`. `random` in [0, 1) draws the jittered part. */
export function backoffMs(policy: BackoffPolicy, attempt: number, random: number): number {
  const grown = policy.type === 'fixed' ? policy.delayMs : policy.delayMs * 2 ** Math.min(attempt - 1, 40);
  const capped = Math.min(grown, policy.maxMs);
  return Math.round(capped * (1 - policy.jitter) + capped * policy.jitter * random);
}

/** The reasons of ends that Belay caused, and not the agent. */
const LOST_BY: readonly (StopReason | undefined)[] = ['worker_lost', 'server_shutdown'];

/**
 * Whether a failed attempt is followed by another, and after how long. A pure function. Undefined: the attempt failed for good,
 * and only then are its dependants judged.
 */
export function retryVerdict(
  node: Pick<NodeSpec, 'maxAttempts' | 'backoff' | 'retryOn'> & { readonly priorAttempts?: number },
  attemptEver: number,
  { error, reason }: Pick<AgentOutcome, 'error' | 'reason'>,
  random: number,
): { readonly retryInMs: number } | undefined {
  // A retry by hand starts the count anew.
  const attempt = attemptEver - (node.priorAttempts ?? 0);
  if (attempt >= node.maxAttempts) return undefined;
  if (node.retryOn === 'lost' && !LOST_BY.includes(reason)) return undefined;
  if (error !== undefined && NEVER_RETRIED.has(error.code)) return undefined;
  return { retryInMs: backoffMs(node.backoff, attempt, random) };
}
