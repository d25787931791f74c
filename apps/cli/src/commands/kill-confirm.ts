import { isWide, type Scope } from '#libs/contracts';
import { UsageError } from '../exit-codes';
import type { Session } from '../session/session';

/** The words that a person types before everything is killed; a smaller scope needs a yes. */
const KILL_ALL = 'kill all';

/** A kill that a person must confirm. */
export interface KillQuestion {
  readonly scope: Scope;
  /** `of the fleet`, `of this machine` */
  readonly whose: string;
  /** The agents in scope, in words, and whether they are certain to be one only. Called only where there is a question. */
  readonly weigh: () => Promise<{ readonly what: string; readonly isOne: boolean }>;
  /** The latch that keeps new work from starting, as the end of the sentence; empty when there is none. */
  readonly latch: string;
}

/**
 * A kill of everything is always confirmed. A narrower scope is confirmed on a terminal when it covers more than one agent: a
 * script has named its scope, but a tired person may have named more than was meant.
 */
export async function isConfirmed(session: Session, question: KillQuestion): Promise<boolean> {
  const { scope, whose, weigh, latch } = question;
  if (!isWide(scope)) return true;
  const isAll = scope.type === 'all';
  if (!session.process.stdinIsTTY) {
    if (!isAll) return true;
    throw new UsageError(
      `belay kill --all ends every agent ${whose}. Without a terminal add --yes; to look first add --dry-run.`,
    );
  }
  const { what, isOne } = await weigh();
  if (!isAll && isOne) return true;
  const word = isAll ? KILL_ALL : 'yes';
  const answer = await session.process.ask(`This kills ${what}${latch}. Type "${word}" to go on: `);
  return answer?.trim() === word;
}
