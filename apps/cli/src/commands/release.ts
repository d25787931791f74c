import type { Command } from 'commander';
import type { Released } from '#libs/client';
import { BelayError, MOST_RELEASERS, type Latch, type PendingRelease } from '#libs/contracts';
import { kindOf, requireId } from '../arguments/resolve-id';
import { EXIT, UsageError, type ExitCode } from '../exit-codes';
import { describeRelease } from '../receipt/describe-latch';
import { describeScope } from '../receipt/describe-scope';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
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
  let isPending = false;
  const ask: typeof act.ask = async (wait) => {
    const released = await act.ask(wait);
    isPending = released.pending !== undefined;
    return released;
  };
  const code = await proveAndShow(session, { ...act, ask }, options);
  // A script must not take it for a release.
  return isPending ? EXIT.unconfirmed : code;
}

function describeReleased({ latch, already, pending }: Released): string[] {
  if (pending !== undefined) return describePending(latch, already, pending);
  if (already) return [`${describeRelease(latch)} (before this call)`];
  const { kind, id, scope } = latch;
  return [`${kind} ${id} over ${describeScope(scope)} is released: nodes that waited may start`];
}

/** The first of two people has approved: the latch is as it was. */
function describePending(
  latch: Latch,
  already: boolean,
  { approvedBy, expiresAt }: PendingRelease,
): string[] {
  const until = formatTime(expiresAt);
  const before = already ? ' (before this call)' : '';
  return [
    `${cleanText(approvedBy)} has approved the release of ${latch.kind} ${latch.id}${before}: 1 of ${MOST_RELEASERS} people`,
    `it stays engaged until a person with another token releases it before ${until}: belay release ${latch.id} --note "why"`,
  ];
}
