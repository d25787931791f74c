import { BelayError, type ExecutionSpec } from '#libs/contracts';
import type { SlotStore } from '#libs/lifecycle';

/** The answer where nothing tells when agents will end. Milliseconds. */
const UNKNOWN_WAIT_MS = 5_000;

/**
 * For a caller that does not want to wait for a limit. It looks at the present: two submits at once may both pass, and the
 * later one waits.
 * @throws BelayError LIMITED when one of the nodes that would start first cannot start now
 */
export async function refuseLimited(slots: SlotStore, spec: ExecutionSpec): Promise<void> {
  const first = spec.nodes.filter(({ dependsOn }) => dependsOn.length === 0);
  const full = await slots.fullLimit(
    first.map(({ pool, labels }) => ({ pool, labels: { ...spec.labels, ...labels } })),
  );
  if (full === undefined) return;
  const { limit, waitMs = UNKNOWN_WAIT_MS } = full;
  const retryAfterMs = Math.max(1, Math.ceil(waitMs));
  throw new BelayError(
    'LIMITED',
    `The limit ${limit} is full, and the submit asks not to wait. Nothing was stored. Try again in ${Math.ceil(retryAfterMs / 1_000)} s, or let it wait.`,
    { details: { limit, retryAfterMs } },
  );
}
