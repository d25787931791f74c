import type { BelayClient } from '#libs/client';
import { isBelayError, type CanaryResult, type DrillResult } from '#libs/contracts';

/** A canary with the time to its first signal, which the drill's own result does not contain. */
export type TimedCanary = CanaryResult & {
  /** The time from the placing of the order. Milliseconds. */
  readonly signalledMs?: number;
};

/** A drill's result with the times of its order's receipt. */
export type TimedDrill = Omit<DrillResult, 'canaries'> & { readonly canaries: readonly TimedCanary[] };

/** Adds times from the receipt of the drill's order; unchanged where that receipt is no longer kept. */
export async function withLatency(client: BelayClient, result: DrillResult): Promise<TimedDrill> {
  if (result.orderId === undefined) return result;
  try {
    const { targets } = await client.receipt(result.orderId);
    const canaries = result.canaries.map((canary): TimedCanary => {
      const signalledMs = targets.find(({ nodeId }) => nodeId === canary.name)?.latency?.signalledMs;
      return signalledMs === undefined ? canary : { ...canary, signalledMs };
    });
    return { ...result, canaries };
  } catch (error) {
    // The drill has its result: an addition must not fail it.
    if (isBelayError(error)) return result;
    throw error;
  }
}
