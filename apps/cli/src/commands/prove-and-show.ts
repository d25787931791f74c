import type { Receipt } from '#libs/contracts';
import { EXIT, exitCodeOfReceipt, type ExitCode } from '../exit-codes';
import { renderReceipt } from '../receipt/render-receipt';
import type { Session } from '../session/session';
import { noteWarning } from './note-warning';
import { waitForProof, type ProofWait, type WaitOptions } from './wait-for-proof';

/** An act that a receipt proves. */
export interface ProvedAct<T> {
  /** The text that is shown during the act: `freezing pool gpu`. */
  readonly what: string;
  readonly ask: (wait: ProofWait) => Promise<T>;
  /** Absent where there is nothing to prove. */
  readonly receiptOf: (answer: T) => Receipt | undefined;
  /** Lines before the receipt. */
  readonly head?: (answer: T) => readonly string[];
  /** Lines below the receipt, for a person. Never rejects. */
  readonly after?: (answer: T) => Promise<readonly string[]>;
  /** The next steps, for a person. */
  readonly hints?: (answer: T) => readonly string[];
  /** The message when Ctrl-C ends the wait; `stored` is present where an answer has shown that the order is stored. */
  readonly whenLeft: (stored: { readonly orderId?: string } | undefined) => string;
}

/** Waits for the proof and shows it. The exit code is the receipt's. */
export async function proveAndShow<T>(
  session: Session,
  act: ProvedAct<T>,
  options: { readonly full?: boolean } & WaitOptions = {},
): Promise<ExitCode> {
  const waited = await waitForProof(session, act.what, act.ask, options);
  if ('unanswered' in waited) return EXIT.unconfirmed;
  if ('interrupted' in waited) {
    session.note(act.whenLeft(waited.stored));
    return EXIT.interrupted;
  }
  const { answer } = waited;
  const receipt = act.receiptOf(answer);
  if (session.isJson) session.json(answer);
  else {
    const head = act.head?.(answer) ?? [];
    const body = receipt === undefined ? [] : renderReceipt(receipt, session.out, options);
    const gap = head.length > 0 && body.length > 0 ? [''] : [];
    for (const line of [...head, ...gap, ...body]) session.print(line);
    for (const line of (await act.after?.(answer)) ?? []) session.print(line);
    for (const line of act.hints?.(answer) ?? []) session.note(line);
    noteWarning(session, receipt ?? {});
  }
  return exitCodeOfReceipt(receipt);
}
