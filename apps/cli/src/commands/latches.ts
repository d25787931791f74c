import type { Command } from 'commander';
import type { BelayClient } from '#libs/client';
import type { Latch } from '#libs/contracts';
import { describeNeeds } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

const GONE = 'its worker is gone: it covers nothing';

export function addLatches(program: Command, bind: Bind): void {
  program
    .command('latches')
    .description('list engaged latches, freezes and pauses of queues, oldest first')
    .action(
      bind(async (session) => {
        const { items } = await session.client.latches();
        if (session.isJson) return session.json({ items });
        if (items.length === 0)
          return session.note('Nothing is latched, frozen or paused: every ready node may start.');
        const gone = await workersGone(session.client, items);
        session.print(renderLatches(items, session.out, session.width, gone));
        for (const line of legendOf(items)) session.note(line);
      }),
    );
}

/** One row for each latch. */
export function renderLatches(
  latches: readonly Latch[],
  style: Style,
  width: number,
  gone: ReadonlySet<string> = new Set(),
  now: number = Date.now(),
): string {
  return renderTable({
    head: ['ID', 'KIND', 'SCOPE', 'BY', 'SINCE', 'NOTE'],
    rows: latches.map(({ id, kind, scope, by, engagedAt, note, ...latch }) => [
      id,
      kind,
      describeScope(scope),
      cleanText(by),
      formatTime(engagedAt),
      [
        ...(scope.type === 'worker' && gone.has(scope.workerId) ? [GONE] : []),
        ...describeNeeds(latch, now),
        ...(note === undefined ? [] : [cleanText(note)]),
      ].join(': '),
    ]),
    width,
    flexible: 5,
    paint: (cell, column) => (column === 1 ? style.warn(cell) : cell),
  });
}

/** Workers that latches name and that run no more. A worker id is not reused, so these latches have no effect. */
async function workersGone(client: BelayClient, latches: readonly Latch[]): Promise<Set<string>> {
  const named = latches.flatMap(({ scope }) => (scope.type === 'worker' ? [scope.workerId] : []));
  if (named.length === 0) return new Set();
  // The list is shown even when the request for workers fails, since they only add to it.
  const { items } = await client.workers().catch(() => ({ items: undefined }));
  if (items === undefined) return new Set();
  const living = new Set(items.filter(({ state }) => state !== 'stopped').map(({ id }) => id));
  return new Set(named.filter((id) => !living.has(id)));
}

/** A legend: the kinds in the table and the command that ends each. */
function legendOf(latches: readonly Latch[]): string[] {
  const has = (kind: Latch['kind']): boolean => latches.some((latch) => latch.kind === kind);
  return [
    ...(has('latch') ? ['A latch lets nothing start in its scope until: belay release ID --note "why"'] : []),
    ...(has('pause') ? ['A pause lets no agent of its pool start until: belay queues resume POOL'] : []),
    ...(has('freeze') ? ['A freeze also stops running agents where they stand, until: belay thaw ID'] : []),
  ];
}
