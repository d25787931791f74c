import {
  UnknownCursorError,
  type AuditEntry,
  type AuditFault,
  type AuditVerdict,
  type Page,
} from '#libs/contracts';
import type { Valkey } from '#libs/valkey';
import { newReading, readChain, readEntry } from './audit-chain';
import { compareOrder, follow, readOrder, type OrderTrail } from './audit-orders';
import type { ControlSettings } from './control-settings';

/** Orders read at once. */
const AT_ONCE = 50;
/** Entries of a page, unless the caller says otherwise. */
const LISTED = 100;

/**
 * The audit log: each act with its actor, scope, reason and outcome. Each entry has a hash over itself and the entry before,
 * made in the script that did the act. The digest of a receipt is in the entry that completed it. ADR 0011 says what the chain
 * proves and what it does not.
 */
export class AuditStore {
  constructor(
    private readonly valkey: Valkey,
    private readonly settings: ControlSettings,
  ) {}

  /** Adds an act that was done while the server was away. Repeatable by id. */
  async record(id: string, entry: object): Promise<void> {
    const { keys, scripts } = this.valkey;
    await scripts.run('recordAct', keys.shard(keys.control, 'audit'), [
      keys.control,
      id,
      this.settings.text,
      JSON.stringify(entry),
    ]);
  }

  /** Newest first. The cursor is the id of the last entry of the page before. */
  async list({ cursor, limit = LISTED }: { readonly cursor?: string; readonly limit?: number } = {}): Promise<
    Page<AuditEntry>
  > {
    const { redis, keys } = this.valkey;
    const newest = cursor === undefined ? '+' : `(${readCursor(cursor)}`;
    const key = keys.shard(keys.control, 'audit');
    // One more than the page contains tells whether there is another.
    const rows = await redis.xrevrange(key, newest, '-', 'COUNT', limit + 1);
    const items = rows.slice(0, limit).map(([id, values]) => toEntry(id, values));
    const last = items.at(-1);
    return rows.length > limit && last !== undefined ? { items, nextCursor: last.id } : { items };
  }

  /**
   * Computes the whole kept chain again, and compares each kept order with its entries in the chain: its fields, its state, its
   * receipt. Changes nothing.
   */
  async verify(): Promise<AuditVerdict> {
    const reading = newReading();
    const trails = new Map<string, OrderTrail>();
    await readChain(this.valkey, reading, (act) => follow(trails, act));
    const { entries, head } = reading;
    const { checked, faults } = await this.compare([...trails]);
    const moved = new Set<string>();
    // An order that changed during the read fits the next verification.
    if (faults.size > 0)
      await readChain(this.valkey, reading, ({ orderId }) => orderId !== undefined && moved.add(orderId));
    const all = [...reading.faults, ...[...faults].flatMap(([id, found]) => (moved.has(id) ? [] : found))];
    return {
      entries,
      receipts: checked,
      ...(head === undefined ? {} : { head }),
      intact: all.length === 0,
      faults: all,
    };
  }

  private async compare(
    trails: readonly (readonly [string, OrderTrail])[],
  ): Promise<{ checked: number; faults: ReadonlyMap<string, readonly AuditFault[]> }> {
    const faults = new Map<string, readonly AuditFault[]>();
    let checked = 0;
    for (let i = 0; i < trails.length; i += AT_ONCE) {
      await Promise.all(
        trails.slice(i, i + AT_ONCE).map(async ([orderId, trail]) => {
          const held = await readOrder(this.valkey, orderId);
          if (held === undefined) return; // an entry that retention left
          if (trail.settled?.act === 'order.complete') checked++;
          const found = compareOrder(orderId, trail, held);
          if (found.length > 0) faults.set(orderId, found);
        }),
      );
    }
    return { checked, faults };
  }
}

/** @throws BelayError INVALID_REQUEST for a cursor that no page has answered */
function readCursor(cursor: string): string {
  if (/^\d{1,15}-\d{1,19}$/.test(cursor)) return cursor;
  throw new UnknownCursorError();
}

function toEntry(id: string, [, text = '', , hash = '']: readonly string[]): AuditEntry {
  return { ...(readEntry(text) as unknown as AuditEntry), id, hash };
}
