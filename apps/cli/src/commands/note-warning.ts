import type { ScopeWarning } from '#libs/contracts';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';

/** Prints a warning on stderr for people; with --json the answer contains it. */
export function noteWarning(session: Session, { warning }: { readonly warning?: ScopeWarning }): void {
  if (warning !== undefined && !session.isJson) session.note(`warning: ${cleanText(warning.message)}`);
}
