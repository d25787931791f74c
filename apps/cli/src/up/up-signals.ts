import type { Session } from '../session/session';
import { formatDuration } from '../text/format';

export interface UpSignals {
  /** Aborts at the first signal. */
  readonly asked: AbortSignal;
  readonly isAsked: () => boolean;
  readonly wasForced: () => boolean;
  /** Resolves at the first signal. */
  readonly untilAsked: () => Promise<void>;
  readonly release: () => void;
}

/** The first signal drains, the second reports what the drain waits for, the third forces. */
export function watchSignals(
  session: Session,
  up: {
    readonly boundMs: number;
    readonly waitingFor: () => string[];
    readonly force: () => void;
  },
): UpSignals {
  const controller = new AbortController();
  let count = 0;
  const listener = (signal: NodeJS.Signals): void => {
    count++;
    if (count === 1) {
      // The progress block is cleared first: its next drawing would erase this line.
      controller.abort();
      const bound = formatDuration(up.boundMs);
      session.note(
        `${signal}: draining. Running agents have ${bound} to finish; then they are stopped with proof.`,
      );
    } else if (count === 2) {
      session.note(`Already draining: waiting for ${up.waitingFor().join(', ')}. A third signal kills them.`);
    } else {
      session.note(`Forcing: SIGKILL to ${up.waitingFor().join(', ')}.`);
      up.force();
    }
  };
  const release = session.process.onSignal(listener);
  // Listeners for signals do not keep a process alive: this timer does, until one comes.
  const awake = setInterval(() => undefined, 60_000);
  return {
    asked: controller.signal,
    isAsked: () => controller.signal.aborted,
    wasForced: () => count > 2,
    async untilAsked() {
      if (controller.signal.aborted) return;
      await new Promise<void>((resolve) =>
        controller.signal.addEventListener('abort', () => resolve(), { once: true }),
      );
    },
    release() {
      clearInterval(awake);
      release();
    },
  };
}
