import { isBelayError } from '#libs/contracts';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { formatDuration } from '../text/format';

/** On a terminal the wait is shown from here on; a stop is usually faster. Milliseconds. */
const QUIET_MS = 500;
const REDRAW_MS = 250;

/**
 * Waits for a stop or a kill. On a terminal one line counts the time. Answers undefined when the server gave no
 * answer in time (the order stands, its outcome is not known), `interrupted` on Ctrl-C.
 */
export async function waitForProof<T>(
  session: Session,
  what: string,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T | 'interrupted' | undefined> {
  const ending = abortOnSignal(session.process);
  const hide = showWait(session, what);
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

function showWait(session: Session, what: string): () => void {
  const { stderr } = session.process;
  if (session.isJson || !stderr.isTTY) return () => undefined;
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
