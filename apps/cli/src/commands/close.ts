import type { Command } from 'commander';
import { requireId } from '../arguments/resolve-id';
import { renderReceipt } from '../receipt/render-receipt';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { requireNote } from './release';

interface CloseOptions {
  readonly note?: string;
  readonly full?: boolean;
}

export function addClose(program: Command, bind: Bind): void {
  program
    .command('close')
    .description('give up on the unconfirmed targets of an order, with a reason')
    .argument('<order>', 'order id')
    .option('--note <text>', 'how you know that they cannot be confirmed; required')
    .option('--full', 'every target of a large receipt')
    .action(
      bind(async (session, given: string, options: CloseOptions) => {
        const orderId = requireId(given, 'order');
        const note = requireNote(options.note, 'A person takes responsibility for targets without evidence.');
        await closeAndShow(session, orderId, note, options);
      }),
    );
}

async function closeAndShow(
  session: Session,
  orderId: string,
  note: string,
  options: CloseOptions,
): Promise<void> {
  const receipt = await session.client.closeOrder(orderId, note);
  if (session.isJson) return session.json(receipt);
  for (const line of renderReceipt(receipt, session.out, options)) session.print(line);
  if (receipt.complete) session.note('There was nothing to close.');
  else if (receipt.closed !== undefined && receipt.closed.note !== note)
    session.note('It was closed before; the first note is kept.');
}
