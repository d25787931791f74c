import type { QuestionRecord } from '#libs/contracts';
import type { QuestionStore } from '#libs/lifecycle';

/** Between two looks at the questions that agents here wait for. Milliseconds. */
const LOOK_MS = 500;

type Told = (question: QuestionRecord | undefined) => void;

/**
 * Waits for the answers that agents of this worker wait for: one look at all of them together, which also stores the denial of a
 * deadline that has passed. It keeps nothing that the store has not.
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

  /** The question once it is closed; undefined when it is there no more, or `signal` ends the wait. */
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

  /** One look at all, and the next one later. Never rejects. */
  private async look(): Promise<void> {
    clearTimeout(this.timer);
    this.isLooking = true;
    const asked = [...this.waiting.keys()];
    try {
      const found = new Map((await this.questions.many(asked)).map((one) => [one.id, one]));
      // One that is lost, or that nobody can read, is no answer: whoever waits for it is told that there is none.
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
