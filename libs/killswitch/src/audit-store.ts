import { createHash } from 'node:crypto';
import type { AuditEntry, AuditVerdict, TargetReceipt } from '#libs/contracts';
import type { Valkey } from '#libs/valkey';

const PAGE = 1_000;

const chain = (before: string, text: string): string =>
  createHash('sha1').update(`${before}\n${text}`).digest('hex');

/**
 * Who did what to whom, why, and what came of it. Each entry holds a hash over the one before and itself, made inside
 * the script that did the act; a receipt's digest stands in the entry that completed it (ADR 0011 says what that shows
 * and what not).
 */
export class AuditStore {
  constructor(private readonly valkey: Valkey) {}

  /** Newest first. */
  async list(limit = 100): Promise<AuditEntry[]> {
    const { redis, keys } = this.valkey;
    const rows = await redis.xrevrange(keys.shard(keys.control, 'audit'), '+', '-', 'COUNT', limit);
    return rows.map(([id, values]) => toEntry(id, values));
  }

  /** Computes the whole chain that is kept, and every kept receipt's digest, again. Changes nothing. */
  async verify(): Promise<AuditVerdict> {
    const { redis, keys } = this.valkey;
    const key = keys.shard(keys.control, 'audit');
    let before: string | undefined;
    let cursor = '-';
    let entries = 0;
    const faults: { id: string; fault: string }[] = [];
    const digests = new Map<string, { id: string; digest: string }>();
    for (;;) {
      const rows = await redis.xrange(key, cursor, '+', 'COUNT', PAGE);
      for (const [id, [, text = '', , hash = '']] of rows) {
        const n = numberOf(text);
        // The first that is kept rests on one that is not; its own hash is taken as given.
        if (before !== undefined && chain(before, text) !== hash)
          faults.push({ id, fault: `entry ${n ?? '?'} does not follow from the one before it` });
        if (before === undefined && n === 1 && chain('', text) !== hash)
          faults.push({ id, fault: 'the first entry was changed' });
        const { act, orderId, digest } = readBody(text);
        if (act === 'order.complete' && orderId !== undefined && digest !== undefined)
          digests.set(orderId, { id, digest });
        before = hash;
        entries++;
      }
      const last = rows.at(-1);
      if (last === undefined || rows.length < PAGE) break;
      cursor = `(${last[0]}`;
    }
    const head = await redis.hget(keys.shard(keys.control, 'audit:head'), 'hash');
    if ((head ?? undefined) !== before)
      faults.push({ id: 'head', fault: 'the last entry is not the one that was written last' });
    const receipts = await this.verifyReceipts(digests, faults);
    return {
      entries,
      receipts,
      ...(before === undefined ? {} : { head: before }),
      intact: faults.length === 0,
      faults,
    };
  }

  private async verifyReceipts(
    digests: ReadonlyMap<string, { id: string; digest: string }>,
    faults: { id: string; fault: string }[],
  ): Promise<number> {
    const { redis, keys } = this.valkey;
    let checked = 0;
    for (const [orderId, { id, digest }] of digests) {
      const [sealed, targets] = await Promise.all([
        redis.lrange(`${keys.order(orderId)}:sealed`, 0, -1),
        redis.hgetall(keys.orderTargets(orderId)),
      ]);
      if (sealed.length === 0) continue; // left by retention
      checked++;
      const again = sealed.reduce((sum, agentId) => chain(sum, targets[agentId] ?? ''), '');
      const extra = Object.values(targets).filter((text) => isSealed(text)).length - sealed.length;
      if (again !== digest || extra !== 0)
        faults.push({ id, fault: `the receipt of ${orderId} was changed` });
    }
    return checked;
  }
}

/** A confirmed outcome is part of the digest; an open one is not yet. */
function isSealed(text: string): boolean {
  const { outcome } = JSON.parse(text) as TargetReceipt;
  return outcome === 'killed' || outcome === 'frozen' || outcome === 'thawed' || outcome === 'already-ended';
}

type Body = Partial<Pick<AuditEntry, 'n' | 'act' | 'orderId' | 'digest'>>;

function readBody(text: string): Body {
  try {
    return JSON.parse(text) as Body;
  } catch {
    return {};
  }
}

const numberOf = (text: string): number | undefined => readBody(text).n;

function toEntry(id: string, [, text = '', , hash = '']: readonly string[]): AuditEntry {
  return { ...(readBody(text) as unknown as AuditEntry), id, hash };
}
