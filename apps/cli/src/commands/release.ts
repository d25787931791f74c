import type { Command } from 'commander';
import type { Released } from '#libs/client';
import { BelayError } from '#libs/contracts';
import { kindOf, requireId } from '../arguments/resolve-id';
import { UsageError, type ExitCode } from '../exit-codes';
import { describeRelease } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { proveAndShow } from './prove-and-show';
import type { ProofWait } from './wait-for-proof';

interface ReleaseOptions {
  readonly note?: string;
  readonly full?: boolean;
}

export function addRelease(program: Command, bind: Bind): void {
  program
    .command('release')
    .description('release a latch, with the reason: the nodes that waited in its scope start')
    .argument('<id>', 'latch id, or the id of the order it was engaged with')
    .option('--note <text>', 'why; required')
    .option('--full', 'every target of a large receipt, where a freeze is released')
    .action(
      bind(async (session, id: string, options: ReleaseOptions) => {
        const note = requireNote(options.note, 'A release needs a reason.');
        return await releaseAndShow(session, await findLatch(session, id), note, options);
      }),
    );
}

/** The reason for an act for which a person answers. */
export function requireNote(note: string | undefined, why: string): string {
  if (note !== undefined && note.trim() !== '') return note;
  throw new UsageError(`Say why: --note TEXT. ${why}`);
}

/** A latch's id: the given one, or that of the latch engaged with the given order. */
export async function findLatch(session: Session, id: string): Promise<string> {
  if (kindOf(id) !== 'order') return requireId(id, 'latch');
  const { order } = await session.client.receipt(id);
  if (order.latchId !== undefined) return order.latchId;
  throw new BelayError(
    'NOT_FOUND',
    `No latch was engaged with ${id}. List the engaged ones with: belay latches`,
  );
}

/** Releases a latch and shows the outcome; for a freeze, the receipt of its thaw. */
export async function releaseAndShow(
  session: Session,
  latchId: string,
  note: string,
  options: { readonly full?: boolean },
): Promise<ExitCode> {
  const act = {
    what: `releasing ${latchId}`,
    ask: async ({ signal }: ProofWait) => await session.client.releaseLatch(latchId, note, { signal }),
    receiptOf: ({ receipt }: Released) => receipt,
    head: describeReleased,
    whenLeft: () => 'It may have been released. Look with: belay latches',
  };
  return await proveAndShow(session, act, options);
}

function describeReleased({ latch, already }: Released): string[] {
  if (already) return [`${describeRelease(latch)} (before this call)`];
  const { kind, id, scope } = latch;
  return [`${kind} ${id} over ${describeScope(scope)} is released: nodes that waited may start`];
}
