import { isBelayError, type BelayError } from '#libs/contracts';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { formatDuration } from '../text/format';
import { tellSilence } from './tell-silence';

/** On a terminal the wait is shown after this; a stop is usually faster. Milliseconds. */
const QUIET_MS = 500;
const REDRAW_MS = 250;
/** Without a terminal the wait is reported once, after this. Milliseconds. */
const TELL_AFTER_MS = 2_000;
const BY_ORCHESTRATOR = 'at most for the limit of the orchestrator (BELAY_PROOF_LIMIT_MS, 30 s unless set)';

/** The options of a wait for proof. */
export interface ProofWait {
  readonly signal: AbortSignal;
  /** Called when an answer has shown that the order is stored; until then no message claims it. */
  stored(orderId?: string): void;
}

/** How a wait ended: with an answer, by Ctrl-C, or without an answer in time. */
export type Waited<T> =
  | { readonly answer: T }
  | { readonly interrupted: true; readonly stored?: { readonly orderId?: string } }
  | { readonly unanswered: true };

export interface WaitOptions {
  /** The longest wait, in words. */
  readonly bound?: string;
  /** The command that ends agents without an orchestrator, shown when no answer comes. */
  readonly local?: string;
}

/**
 * Waits for a stop or a kill. On a terminal one line counts the time; elsewhere one line names the wait once. Without an answer
 * after 5 s a line says which commands work without one.
 */
export async function waitForProof<T>(
  session: Session,
  what: string,
  ask: (wait: ProofWait) => Promise<T>,
  { bound = BY_ORCHESTRATOR, local }: WaitOptions = {},
): Promise<Waited<T>> {
  const ending = abortOnSignal(session.process);
  const hide = showWait(session, what, bound);
  const heard = local === undefined ? (): void => undefined : tellSilence(session, local);
  let stored: { orderId?: string } | undefined;
  try {
    const answer = await ask({
      signal: ending.signal,
      stored: (orderId) => {
        heard();
        stored = orderId === undefined ? {} : { orderId };
      },
    });
    return { answer };
  } catch (error) {
    if (ending.wasInterrupted()) return { interrupted: true, ...(stored === undefined ? {} : { stored }) };
    if (!isBelayError(error) || !isUnanswered(error, stored !== undefined)) throw error;
    hide();
    const message = stored === undefined ? unstored(error, local) : unproved(error, stored.orderId);
    if (session.isJson) session.json({ complete: false, ...stored, error: { code: error.code, message } });
    else session.note(`belay: ${message}`);
    return { unanswered: true };
  } finally {
    heard();
    hide();
    ending.release();
  }
}

const AWAY = new Set([
  'TIMEOUT',
  'OUTCOME_UNKNOWN',
  'SERVER_UNREACHABLE',
  'SERVER_REFUSED',
  'DRAINING',
  // Of a stop only the order is taken at any rate, and not the reads of its receipt.
  'RATE_LIMITED',
]);

/** For a stored order only the proof is missing, even if the orchestrator went away meanwhile. */
function isUnanswered({ code }: BelayError, isStored: boolean): boolean {
  return code === 'TIMEOUT' || (isStored && AWAY.has(code));
}

function unstored({ message }: BelayError, local: string | undefined): string {
  return local === undefined ? message : `${message.replace(/\.$/, '')}. ${withoutOrchestrator(local)}`;
}

function unproved({ message }: BelayError, orderId: string | undefined): string {
  const order = orderId === undefined ? 'The order is stored' : `Order ${orderId} is stored`;
  const look = orderId === undefined ? '' : ` Look with: belay receipt ${orderId}`;
  return `${order}, but no answer showed its proof: ${message.replace(/\.$/, '')}.${look}`;
}

/** `Without the orchestrator, on each machine with workers: belay kill --local`. */
export function withoutOrchestrator(local: string): string {
  return `Without the orchestrator, on each machine with workers: ${local}`;
}

function showWait(session: Session, what: string, bound: string): () => void {
  const { stderr } = session.process;
  if (session.isJson) return () => undefined;
  if (!stderr.isTTY) return tellWait(session, what, bound);
  const from = performance.now();
  let isShown = false;
  const timer = setInterval(() => {
    const ms = performance.now() - from;
    if (ms < QUIET_MS) return;
    isShown = true;
    stderr.write(`\r\u001b[2K${what}: waiting for proof, ${formatDuration(ms)}`);
  }, REDRAW_MS);
  return () => {
    clearInterval(timer);
    if (isShown) stderr.write('\r\u001b[2K');
    isShown = false;
  };
}

/** Without a terminal one line, when the wait takes longer than a stop usually does: a log must not fill with such lines. */
function tellWait(session: Session, what: string, bound: string): () => void {
  const timer = setTimeout(() => session.note(`${what}: waiting for proof, ${bound}`), TELL_AFTER_MS);
  return () => clearTimeout(timer);
}
