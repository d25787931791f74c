import { createHash } from 'node:crypto';
import type { AuditEntry, AuditFault } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';

const PAGE = 1_000;

/** The hash of an entry, or of a receipt's next target: over the hash before it and its own text. */
export const chained = (before: string, text: string): string => sha1(`${before}\n${text}`);

export const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');

/** An entry as the log has it. An entry that cannot be read has no fields. */
export type LoggedAct = Partial<AuditEntry> & { readonly id: string };

/** The state of a check of the chain: the faults so far, and the point from which to go on. */
export interface ChainReading {
  entries: number;
  /** The number of the first entry read; NaN when that entry has none. */
  first?: number;
  /** The hash of the last entry read. */
  head: string | undefined;
  /** The stream id after which to go on. */
  cursor: string;
  readonly faults: AuditFault[];
}

export const newReading = (): ChainReading => ({ entries: 0, head: undefined, cursor: '-', faults: [] });

/**
 * Computes the chain again, from the point of `reading` to its end. It reads entries that are written meanwhile too: the end is
 * reached when the last entry read is the one that the scripts know as the last.
 */
export async function readChain(
  { redis, keys }: Valkey,
  reading: ChainReading,
  onEntry: (act: LoggedAct) => void,
): Promise<void> {
  const key = keys.shard(keys.control, 'audit');
  const headKey = keys.shard(keys.control, 'audit:head');
  for (;;) {
    const rows = await redis.xrange(key, reading.cursor, '+', 'COUNT', PAGE);
    for (const [id, [, text = '', , hash = '']] of rows) {
      const act = { ...readEntry(text), id };
      const { head: before, faults } = reading;
      // The first entry kept refers to one that is gone, so its own hash is taken as given.
      if (before !== undefined && chained(before, text) !== hash)
        faults.push({ id, fault: `entry ${act.n ?? '?'} does not follow from the one before it` });
      if (before === undefined) reading.first = act.n ?? NaN;
      if (before === undefined && act.n === 1 && chained('', text) !== hash)
        faults.push({ id, fault: 'the first entry was changed' });
      reading.head = hash;
      reading.cursor = `(${id}`;
      reading.entries++;
      onEntry(act);
    }
    if (rows.length === PAGE) continue;
    const [hash, written] = await redis.hmget(headKey, 'hash', 'n');
    const head = hash ?? undefined;
    if (head === reading.head) return checkNumbers(reading, Number(written ?? 0));
    // The log has no further entry, although the scripts wrote another one last.
    if (rows.length === 0) {
      reading.faults.push({ id: 'head', fault: 'the last entry is not the one that was written last' });
      return;
    }
  }
}

/**
 * Checks that as many entries follow the first one kept as the scripts have written. A changed number or text breaks the chain,
 * even in the entry that looks like the first one that retention left. A break that was found already says more.
 */
function checkNumbers({ first = 1, entries, faults }: ChainReading, written: number): void {
  if (first + entries - 1 === written || faults.length > 0) return;
  faults.push({
    id: 'head',
    fault: 'the entries that are kept are not those up to the last that was written',
  });
}

export function readEntry(text: string): Partial<AuditEntry> {
  try {
    return JSON.parse(text) as Partial<AuditEntry>;
  } catch {
    return {};
  }
}
