import type { ExitCode } from '../exit-codes';
import type { Session } from '../session/session';

/** A command's action: takes the session, the arguments and the options, and returns an exit code, or nothing for 0. */
export type Action<A extends unknown[]> = (session: Session, ...args: A) => Promise<ExitCode | void>;

/** Makes a commander action of an `Action`: opens the session and keeps the exit code. */
export type Bind = <A extends unknown[]>(action: Action<A>) => (...args: unknown[]) => Promise<void>;
