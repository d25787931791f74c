import type { Session } from '../session/session';

/** After this silence a person is told which commands work without the orchestrator. Milliseconds. */
const SILENCE_MS = 5_000;

/** Until the returned function is called: after a while without an answer, a line says what that means and what to do. */
export function tellSilence(session: Session, local: string): () => void {
  const timer = setTimeout(() => {
    // On a terminal the line that counts the time is there.
    if (session.process.stderr.isTTY && !session.isJson) session.process.stderr.write('\r\u001b[2K');
    session.note(
      `No answer from ${session.connection.url} after ${SILENCE_MS / 1_000} s: the order may not be stored. ` +
        `Without the orchestrator, on each machine with workers: ${local}`,
    );
  }, SILENCE_MS);
  return () => clearTimeout(timer);
}
