import type { QuestionRecord } from '#libs/contracts';
import type { QuestionStore } from '#libs/lifecycle';

/** The time between two looks at the questions for which agents here wait. Milliseconds. */
const LOOK_MS = 500;

type Told = (question: QuestionRecord | undefined) => void;

/**
 * Waits for the answers to agents' questions on this worker, with one look at all of them together. The look also stores the
 * denial of a question whose deadline has passed. It keeps no state that the store does not have.
 */
export class QuestionDesk {
  private readonly waiting = new Map<string, Set<Told>>();
  private timer: NodeJS.Timeout | undefined;
  private isLooking = false;
  private isClosed = false;

  constructor(
    private readonly questions: Pick<QuestionStore, 'many'>,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** The question once it is closed; undefined when it no longer exists, or `signal` ends the wait. */
  async closed(id: string, signal: AbortSignal): Promise<QuestionRecord | undefined> {
    if (signal.aborted || this.isClosed) return undefined;
    return new Promise((resolve) => {
      const told: Told = (question) => {
        signal.removeEventListener('abort', giveUp);
        resolve(question);
      };
      const giveUp = (): void => {
        const others = this.waiting.get(id);
        others?.delete(told);
        if (others?.size === 0) this.waiting.delete(id);
        told(undefined);
      };
      signal.addEventListener('abort', giveUp, { once: true });
      this.waiting.set(id, (this.waiting.get(id) ?? new Set()).add(told));
      if (!this.isLooking) void this.look();
    });
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    for (const id of this.waiting.keys()) this.tell(id, undefined);
  }

  /** Looks at all of them, and plans the next look. Never rejects. */
  private async look(): Promise<void> {
    clearTimeout(this.timer);
    this.isLooking = true;
    const asked = [...this.waiting.keys()];
    try {
      const found = new Map((await this.questions.many(asked)).map((one) => [one.id, one]));
      // A lost or unreadable question is no answer: its waiter is told that there is none.
      for (const id of asked) if (found.get(id)?.state !== 'open') this.tell(id, found.get(id));
    } catch (error) {
      this.onError(error);
    }
    this.isLooking = false;
    if (this.waiting.size > 0 && !this.isClosed) this.timer = setTimeout(() => void this.look(), LOOK_MS);
  }

  private tell(id: string, question: QuestionRecord | undefined): void {
    const all = this.waiting.get(id);
    this.waiting.delete(id);
    for (const told of all ?? []) told(question);
  }
}
