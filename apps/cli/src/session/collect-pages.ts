import type { Page } from '#libs/client';

/** Items of one page. */
const PAGE = 200;

/**
 * Reads page after page until there are `most` items or no more. `isCut`: the server left out the oldest, since there were too
 * many.
 */
export async function collectPages<T>(
  most: number,
  read: (cursor: { readonly cursor?: string }, limit: number) => Promise<Page<T>>,
): Promise<{ items: T[]; isMore: boolean; isCut: boolean }> {
  const items: T[] = [];
  let cursor: { cursor?: string } = {};
  while (items.length < most) {
    const page = await read(cursor, Math.min(PAGE, most - items.length));
    items.push(...page.items);
    // An empty page with a cursor may precede others, since pages are filtered; the same cursor again would be a loop.
    if (page.nextCursor === undefined || page.nextCursor === cursor.cursor)
      return { items, isMore: false, isCut: page.truncated === true };
    cursor = { cursor: page.nextCursor };
  }
  return { items, isMore: true, isCut: false };
}
