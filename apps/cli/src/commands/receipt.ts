import type { Command } from 'commander';
import { requireId } from '../arguments/resolve-id';
import { exitCodeOfReceipt, type ExitCode } from '../exit-codes';
import type { Bind } from './action';
import { noteWarning } from './note-warning';
import { renderReceipt } from '../receipt/render-receipt';
import type { Session } from '../session/session';

interface ReceiptOptions {
  readonly full?: boolean;
}

export function addReceipt(program: Command, bind: Bind): void {
  program
    .command('receipt')
    .description('show the evidence of one order, as far as it is known now')
    .argument('<order>', 'order id')
    .option('--full', 'every target, however many')
    .action(
      bind(
        async (session, order: string, options: ReceiptOptions) =>
          await showReceipt(session, requireId(order, 'order'), options),
      ),
    );
}

/** Reads and shows one receipt; its exit code says whether it is complete. */
export async function showReceipt(
  session: Session,
  orderId: string,
  options: ReceiptOptions,
): Promise<ExitCode> {
  const receipt = await session.client.receipt(orderId);
  if (session.isJson) session.json(receipt);
  else for (const line of renderReceipt(receipt, session.out, options)) session.print(line);
  noteWarning(session, receipt);
  return exitCodeOfReceipt(receipt);
}
