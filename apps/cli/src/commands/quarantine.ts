import type { Command } from 'commander';
import type { QuarantinedRecord } from '#libs/contracts';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

export function addQuarantine(program: Command, bind: Bind): void {
  program
    .command('quarantine')
    .description('list stored records that cannot be read, oldest first')
    .action(
      bind(async (session) => {
        const { items } = await session.client.quarantine();
        if (session.isJson) return session.json({ items });
        if (items.length === 0) return session.note('No unreadable records found.');
        session.print(renderQuarantine(items, session.width));
        session.note('Repair or remove the record in Valkey; Belay reads it again within seconds.');
        session.note('Agents of such an execution can still be ended: belay kill --execution ID');
      }),
    );
}

/** One row for each record. */
export function renderQuarantine(records: readonly QuarantinedRecord[], width: number): string {
  return renderTable({
    head: ['KEY', 'FIELD', 'SINCE', 'PROBLEM', 'BEGINS'],
    rows: records.map(({ key, field = '', firstSeenAt, problem, cut }) => [
      cleanText(key),
      cleanText(field),
      formatTime(firstSeenAt),
      cleanText(problem),
      cleanText(cut),
    ]),
    width,
    flexible: 4,
  });
}
