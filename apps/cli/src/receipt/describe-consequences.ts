import type { BelayClient } from '#libs/client';
import type { ExecutionId, TargetReceipt } from '#libs/contracts';

/** At most this many executions are asked for; the others are counted. */
const SHOWN = 5;
/** A hint is worth this much waiting. Milliseconds. */
const LOOK_UP_MS = 3_000;

/** Agents of a plan or a receipt; those of a plan have no outcome yet. */
type Hit = Pick<TargetReceipt, 'executionId'> & Partial<Pick<TargetReceipt, 'outcome'>>;

/**
 * The consequences of a kill of single agents for their executions, by their specs. A killed node is not retried, and where
 * `onFailure` is `stop`, the default, its whole execution stops. `whole`: executions that the kill itself stops. Reads only;
 * empty where the executions cannot be read in time.
 */
export async function describeConsequences(
  client: BelayClient,
  hits: readonly Hit[],
  whole: readonly ExecutionId[] = [],
): Promise<string[]> {
  const lives = hits.filter(({ outcome }) => outcome !== 'already-ended');
  const ids = [...new Set(lives.map(({ executionId }) => executionId))].filter((id) => !whole.includes(id));
  const signal = AbortSignal.timeout(LOOK_UP_MS);
  const lines = await Promise.all(
    ids.slice(0, SHOWN).map(async (id) => {
      const record = await client.execution(id, { signal }).catch(() => undefined);
      if (record === undefined) return [];
      return record.onFailure === 'stop'
        ? [`${id} stops as a whole: its onFailure is stop, and a killed node is not tried again`]
        : [`${id} goes on without the killed nodes and those that depend on them: its onFailure is continue`];
    }),
  );
  const rest = ids.length - SHOWN;
  return [
    ...lines.flat(),
    ...(rest > 0 ? [`and ${rest} more executions lose agents, with the same rule`] : []),
  ];
}
