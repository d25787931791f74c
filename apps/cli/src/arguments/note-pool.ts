import { NameSuggester, type Scope } from '#libs/contracts';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { poolsOf } from '../text/pools';

/**
 * Says so when no live worker serves the pool that was named: a misspelt pool is killed, latched and frozen without
 * an error, since nodes may wait in a pool that has no worker. Only a hint: what was asked for is done or not by itself.
 */
export async function notePool(session: Session, scope: Scope): Promise<void> {
  if (scope.type !== 'pool' || session.isJson) return;
  const workers = await session.client.workers().catch(() => undefined);
  if (workers === undefined) return;
  const pools = [...poolsOf(workers.items).keys()];
  if (pools.includes(scope.pool)) return;
  const nearest = new NameSuggester().nearest(scope.pool, pools);
  const served = pools.length === 0 ? 'none' : cleanText(pools.join(', '));
  const hint = nearest === undefined ? '' : ` Did you mean ${cleanText(nearest)}?`;
  session.note(`No live worker serves pool ${scope.pool}; served are: ${served}.${hint}`);
}
