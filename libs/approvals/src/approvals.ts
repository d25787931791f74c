import {
  NotFoundError,
  roleOf,
  UnknownCursorError,
  type AnswerRequest,
  type AuditEntry,
  type QuestionRecord,
  type Signature,
  type Page,
} from '#libs/contracts';
import type { AuditStore } from '#libs/killswitch';
import type { LifecycleService } from '#libs/lifecycle';
import { isCorrupt } from '#libs/valkey';
import { ulid } from 'ulid';

/** Questions of a page, unless the caller says otherwise. */
const LISTED = 100;

export interface QuestionQuery {
  /** All questions of this execution, closed ones too. Absent: the open ones of the fleet. */
  readonly executionId?: string;
  readonly cursor?: string;
  readonly limit?: number;
}

/** Lists the questions of agents for people, and takes the answers. */
export class Approvals {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly audit: AuditStore,
  ) {}

  /** @throws NotFoundError · BelayError CORRUPT_RECORD */
  async get(id: string): Promise<QuestionRecord> {
    return this.lifecycle.questions.get(id);
  }

  /** Open questions: the next deadline first. Those of an execution: the oldest first. */
  async list({ executionId, ...page }: QuestionQuery = {}): Promise<Page<QuestionRecord>> {
    const { questions, executions } = this.lifecycle;
    if (executionId === undefined) return questions.open(page);
    await executions.get(executionId);
    return pageOf(await questions.ofExecution(executionId), page);
  }

  /**
   * Resolves when the answer is stored, and its entry is in the audit log if that is possible at once; otherwise the sweep
   * enters it.
   * @throws BelayError NOT_FOUND · QUESTION_CLOSED · QUESTION_CHANGED · INVALID_REQUEST
   */
  async answer(id: string, request: AnswerRequest & Signature): Promise<QuestionRecord> {
    const answered = await this.lifecycle.questions.answer(id, { ...request, answerId: ulid() });
    await this.enter(answered).catch(() => undefined);
    return answered;
  }

  /**
   * Enters answers whose process died before the audit log had them. One bounded pass. An answer that cannot be read stays, and
   * keeps no other from the log.
   */
  async sweep(): Promise<void> {
    const failures: unknown[] = [];
    for (const id of await this.lifecycle.questions.unaudited())
      await this.enterOne(id).catch((error: unknown) => failures.push(error));
    for (const error of failures) {
      if (!isCorrupt(error)) throw error;
      // It reports a corrupt record once, so this does not.
      await this.lifecycle.valkey.quarantine.note(error);
    }
  }

  private async enterOne(id: string): Promise<void> {
    const { questions } = this.lifecycle;
    const found = await questions.get(id).catch((error: unknown) => {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    });
    // The execution was removed in between.
    if (found === undefined) await questions.audited(id);
    else await this.enter(found);
  }

  /** Repeatable: the entry has the question's id, so it is written once. */
  private async enter(record: QuestionRecord): Promise<void> {
    const { id, agentId, question, choices, detail, hash, answer, by, reason, state, endedAt } = record;
    const entry: Partial<AuditEntry> = {
      act: `ask.${state}`,
      questionId: id,
      agentId,
      question,
      choices,
      ...(detail === undefined ? {} : { detail: JSON.stringify(detail) }),
      questionHash: hash,
      ...(answer === undefined ? {} : { answer }),
      ...(by === undefined ? {} : { by }),
      ...roleOf(record),
      ...(reason === undefined ? {} : { note: reason }),
      ...(endedAt === undefined ? {} : { answeredAt: endedAt }),
    };
    await this.audit.record(id, entry);
    await this.lifecycle.questions.audited(id);
  }
}

/** The cursor is the id of the last question of the page before. */
function pageOf(
  all: readonly QuestionRecord[],
  { cursor, limit = LISTED }: Omit<QuestionQuery, 'executionId'>,
): Page<QuestionRecord> {
  const from = cursor === undefined ? 0 : all.findIndex(({ id }) => id === cursor) + 1;
  if (cursor !== undefined && from === 0) throw new UnknownCursorError();
  const items = all.slice(from, from + limit);
  const last = items.at(-1);
  return last !== undefined && from + limit < all.length ? { items, nextCursor: last.id } : { items };
}
