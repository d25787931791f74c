import { isWide, type Scope } from '#libs/contracts';
import { UsageError } from '../exit-codes';
import type { Session } from '../session/session';

/** The words a person types before everything is killed; a smaller scope takes a yes. */
const KILL_ALL = 'kill all';

/** A kill that a person is asked about. */
export interface KillQuestion {
  readonly scope: Scope;
  /** `of the fleet`, `of this machine` */
  readonly whose: string;
  /**
   * The agents that would be hit, in words, and whether they are certain to be one thing. Looked up only where there is a
   * question.
   */
  readonly weigh: () => Promise<{ readonly what: string; readonly isOne: boolean }>;
  /** The latch that keeps new work from starting, as the rest of the sentence; empty when there is none. */
  readonly latch: string;
}

/**
 * Everything is asked about always. A narrower scope is asked about on a terminal when it hits more than one: a script
 * has said whom, a tired person may have said more than was meant.
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
