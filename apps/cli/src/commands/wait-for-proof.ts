import { isBelayError } from '#libs/contracts';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { formatDuration } from '../text/format';

/** On a terminal the wait is shown from here on; a stop is usually faster. Milliseconds. */
const QUIET_MS = 500;
const REDRAW_MS = 250;
/** Elsewhere it is told once, after this. Milliseconds. */
const TELL_AFTER_MS = 2_000;
const BY_ORCHESTRATOR = 'at most for the limit of the orchestrator (BELAY_PROOF_LIMIT_MS, 30 s unless set)';

/**
 * Waits for a stop or a kill. On a terminal one line counts the time; elsewhere one line says once what is waited for, and
 * `bound` how long at most. Answers undefined when the server gave no
 * answer in time (the order stands, its outcome is not known), `interrupted` on Ctrl-C.
 */
export async function waitForProof<T>(
  session: Session,
  what: string,
  ask: (signal: AbortSignal) => Promise<T>,
  bound = BY_ORCHESTRATOR,
): Promise<T | 'interrupted' | undefined> {
  const ending = abortOnSignal(session.process);
  const hide = showWait(session, what, bound);
  try {
    return await ask(ending.signal);
  } catch (error) {
    if (ending.wasInterrupted()) return 'interrupted';
    if (!isBelayError(error) || error.code !== 'TIMEOUT') throw error;
    hide();
    if (session.isJson)
      session.json({ complete: false, error: { code: error.code, message: error.message } });
    else session.note(`belay: ${error.message}`);
    return undefined;
  } finally {
    hide();
    ending.release();
  }
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

/** Without a terminal one line, when it takes longer than a stop usually does: a log must not fill with them. */
function tellWait(session: Session, what: string, bound: string): () => void {
  const timer = setTimeout(() => session.note(`${what}: waiting for proof, ${bound}`), TELL_AFTER_MS);
  return () => clearTimeout(timer);
}
