import type { Command } from 'commander';
import type { Latch } from '#libs/contracts';
import { describeScope } from '../receipt/describe-scope';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

export function addLatches(program: Command, bind: Bind): void {
  program
    .command('latches')
    .description('list engaged latches and freezes, oldest first')
    .action(
      bind(async (session) => {
        const { items } = await session.client.latches();
        if (session.isJson) return session.json({ items });
        if (items.length === 0)
          return session.note('Nothing is latched and nothing is frozen: whatever is ready may start.');
        session.print(renderLatches(items, session.out, session.width));
        for (const line of legendOf(items)) session.note(line);
      }),
    );
}

/** One row for each. */
export function renderLatches(latches: readonly Latch[], style: Style, width: number): string {
  return renderTable({
    head: ['ID', 'KIND', 'SCOPE', 'BY', 'SINCE', 'NOTE'],
    rows: latches.map(({ id, kind, scope, by, engagedAt, note }) => [
      id,
      kind,
      describeScope(scope),
      cleanText(by),
      formatTime(engagedAt),
      note === undefined ? '' : cleanText(note),
    ]),
    width,
    flexible: 5,
    paint: (cell, column) => (column === 1 ? style.warn(cell) : cell),
  });
}

/** What the kinds in the table mean, and what ends them. */
function legendOf(latches: readonly Latch[]): string[] {
  const has = (kind: Latch['kind']): boolean => latches.some((latch) => latch.kind === kind);
  return [
    ...(has('latch') ? ['A latch lets nothing start in its scope until: belay release ID --note "why"'] : []),
    ...(has('freeze') ? ['A freeze also holds still what runs there, until: belay thaw ID'] : []),
  ];
}
