import { type Problem } from '../errors';

/** The time to end a tree after its grace: SIGKILL, and proof. Milliseconds. */
export const FENCE_KILL_MS = 500;
/** Time for timers that fire late and for a heartbeat on its way. Milliseconds. */
export const FENCE_SLACK_MS = 500;
/** The part of a lease that the grace may take while a worker fences itself. */
const GRACE_SHARE = 0.25;
/** The part of a lease that a derived fence fills, so that it has a margin. */
const DERIVED_SHARE = 0.9;
/** A single late heartbeat must not fence a worker. */
const HEARTBEATS_BEFORE_FENCE = 2;

/** The settings from which the fence is computed. Milliseconds. */
export interface FencingTimes {
  readonly leaseTtlMs: number;
  readonly heartbeatMs: number;
  readonly fenceAfterMs: number;
  readonly fenceGraceMs: number;
}

/** The longest grace an agent gets during self-fencing, whatever its node asks for. */
export function fenceGraceOf(graceMs: number, leaseTtlMs: number): number {
  return Math.min(graceMs, Math.floor(leaseTtlMs * GRACE_SHARE));
}

/** `fenceAfterMs` where the settings have none: as late as the lease allows, with a tenth of the lease to spare. */
export function deriveFenceAfter(leaseTtlMs: number, fenceGraceMs: number): number {
  const left = Math.floor(leaseTtlMs * DERIVED_SHARE) - fenceGraceMs - FENCE_KILL_MS - FENCE_SLACK_MS;
  return Math.max(0, left);
}

/**
 * The inequality that self-fencing relies on: fenceAfter + grace + kill time + slack < lease. Otherwise a second worker could
 * be granted the agents while the first still ends them (docs/architecture.md#leases-and-fencing).
 */
export function checkFencing(times: FencingTimes): Problem[] {
  const { leaseTtlMs, heartbeatMs, fenceAfterMs, fenceGraceMs } = times;
  const sum = fenceAfterMs + fenceGraceMs + FENCE_KILL_MS + FENCE_SLACK_MS;
  const problems: Problem[] = [];
  if (sum >= leaseTtlMs) {
    const message =
      `fence after ${fenceAfterMs} + grace ${fenceGraceMs} + kill ${FENCE_KILL_MS} + slack ${FENCE_SLACK_MS}` +
      ` = ${sum} ms must be less than the lease of ${leaseTtlMs} ms;` +
      ' lower BELAY_FENCE_AFTER_MS or BELAY_GRACE_MS, or raise BELAY_LEASE_TTL_MS.';
    problems.push({ path: 'BELAY_FENCE_AFTER_MS', code: 'FENCING', message });
  }
  const least = heartbeatMs * HEARTBEATS_BEFORE_FENCE;
  if (fenceAfterMs < least) {
    const message =
      `fence after ${fenceAfterMs} ms is less than ${HEARTBEATS_BEFORE_FENCE} heartbeats of ${heartbeatMs} ms,` +
      ' so one late heartbeat would stop every agent;' +
      ' lower BELAY_HEARTBEAT_MS, or raise BELAY_FENCE_AFTER_MS or BELAY_LEASE_TTL_MS.';
    problems.push({ path: 'BELAY_HEARTBEAT_MS', code: 'FENCING', message });
  }
  return problems;
}
