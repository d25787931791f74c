import type { Latch } from '#libs/contracts';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { describeScope } from './describe-scope';

/** A latch or a freeze: its scope and the command that ends it; after its release, who released it and why. */
export function describeLatch(latch: Latch): string[] {
  if (latch.releasedAt !== undefined) return [describeRelease(latch)];
  const head = `${latch.kind} ${latch.id} covers ${describeScope(latch.scope)}`;
  if (latch.kind === 'pause' && latch.scope.type === 'pool')
    return [`${head}: none of its nodes starts`, `resume it with: belay queues resume ${latch.scope.pool}`];
  return latch.kind === 'freeze'
    ? [`${head}: its agents stand still, nothing starts`, `thaw it with: belay thaw ${latch.id}`]
    : [
        `${head}: nothing starts until it is released`,
        `release it with: belay release ${latch.id} --note "why"`,
        ...describeNeeds(latch, Date.now()),
      ];
}

/** Of a latch that two people must release: who has approved, and until when that counts; otherwise nothing. */
export function describeNeeds(
  { releaseNeeds = 1, approval }: Pick<Latch, 'releaseNeeds' | 'approval'>,
  now: number,
): string[] {
  if (releaseNeeds === 1) return [];
  if (approval === undefined || approval.expiresAt <= now)
    return [`its release needs ${releaseNeeds} people`];
  return [
    `its release needs ${releaseNeeds} people: ${cleanText(approval.by)} has approved until ${formatTime(approval.expiresAt)}`,
  ];
}

/** `latch lat_… over pool gpu was released by api at …: the driver is mended`. */
export function describeRelease(latch: Latch): string {
  const by = latch.releasedBy === undefined ? '' : ` by ${cleanText(latch.releasedBy)}`;
  const at = latch.releasedAt === undefined ? '' : ` at ${formatTime(latch.releasedAt)}`;
  const why = latch.releaseNote === undefined ? '' : `: ${cleanText(latch.releaseNote)}`;
  return `${latch.kind} ${latch.id} over ${describeScope(latch.scope)} was released${by}${at}${why}`;
}
