import type { BelayClient } from '#libs/client';
import { isBelayError } from '#libs/contracts';
import { count } from '../text/format';
import { ok, warn, type Check } from './check';

/** Stored records that cannot be read: their executions do not go on until the records are mended. */
export async function checkQuarantine(client: BelayClient): Promise<Check> {
  try {
    const { items } = await client.quarantine();
    if (items.length === 0) return ok('records', 'no unreadable records found');
    return warn('records', `${count(items.length, 'record')} cannot be read`, 'belay quarantine');
  } catch (error) {
    if (!isBelayError(error) || error.code !== 'NOT_FOUND') throw error;
    return warn('records', `not known: ${error.message}`);
  }
}
