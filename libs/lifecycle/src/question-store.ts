import { createHash } from 'node:crypto';
import {
  canonicalQuestion,
  NotFoundError,
  parseQuestionId,
  QUESTION_LIMITS,
  roleOf,
  UnknownCursorError,
  type AnswerRequest,
  type CheckedAsk,
  type QuestionId,
  type QuestionRecord,
  type Signature,
  type Page,
} from '#libs/contracts';
import { corrupt, parseStored } from '#libs/valkey';
import type { Fence } from './agent-store.types';
import { executionOf } from './execution-of';
import { accepted } from './refusals';
import { StoreReads } from './store-reads';

/** A list reads at most this many open questions of a shard, the next deadline first. */
const MOST_LISTED = 5_000;
const LISTED = 100;
/** One pass over a shard looks at this many questions. */
const BATCH = 100;

/** An answer and its author. A repeat with the same `answerId` is the same answer. */
export interface GivenAnswer extends AnswerRequest, Signature {
  readonly answerId: string;
}

/**
 * Questions that agents ask people (ADR 0026). One script stores each question, and one decides its answer. Every reader first
 * stores the effect of a passed deadline, or of the attempt's end. So a deadline takes effect although no process is there to
 * enforce it.
 */
export class QuestionStore extends StoreReads {
  /**
   * Stores a question; durable when this resolves. `request` numbers what the holder of this fence asked; a repeat with
   * the same number is the same question. The question's own number counts the stored questions of the attempt.
   * @throws BelayError STALE_EPOCH · NOT_FOUND · TOO_MANY_QUESTIONS
   */
  async ask(
    fence: Fence,
    request: number,
    { timeoutMs, key, whileWaiting, ...words }: CheckedAsk,
  ): Promise<QuestionRecord> {
    const { question, choices, detail } = words;
    const hash = createHash('sha256').update(canonicalQuestion(words)).digest('hex');
    const reply = await this.scripts.json('askQuestion', executionOf(fence.agentId), [
      fence.agentId,
      fence.owner,
      fence.epoch,
      request,
      JSON.stringify({
        hash,
        choices,
        timeoutMs,
        key,
        text: question,
        ...(whileWaiting === 'freeze' ? { whileWaiting } : {}),
      }),
      JSON.stringify({ question, detail }),
      QUESTION_LIMITS.perAttempt,
      QUESTION_LIMITS.perExecution,
    ]);
    return this.get(accepted<{ id: string }>(reply, 'agent', fence.agentId).id);
  }

  /**
   * @throws BelayError NOT_FOUND · QUESTION_CLOSED · QUESTION_CHANGED · INVALID_REQUEST (the question has no such
   *   choice)
   */
  async answer(
    id: QuestionId,
    { choice, hash, reason, by, answerId, ...signature }: GivenAnswer,
  ): Promise<QuestionRecord> {
    const reply = await this.scripts.json('answerQuestion', this.executionOf(id), [
      id,
      choice,
      hash,
      answerId,
      JSON.stringify({ by, reason, ...roleOf(signature) }),
    ]);
    accepted(reply, 'question', id);
    return this.get(id);
  }

  /** @throws NotFoundError · BelayError CORRUPT_RECORD */
  async get(id: QuestionId): Promise<QuestionRecord> {
    const [found] = await this.read(this.executionOf(id), [id]);
    if (found === undefined) throw new NotFoundError('question', id);
    if ('error' in found) throw found.error;
    return found.question;
  }

  /** Those questions that exist and can be read. */
  async many(ids: readonly QuestionId[]): Promise<QuestionRecord[]> {
    const byExecution = new Map<string, string[]>();
    for (const id of ids) {
      const executionId = this.executionOf(id);
      byExecution.set(executionId, [...(byExecution.get(executionId) ?? []), id]);
    }
    const found = await Promise.all(
      [...byExecution].map(async ([executionId, group]) => this.read(executionId, group)),
    );
    return found.flat().flatMap((one) => (one !== undefined && 'question' in one ? [one.question] : []));
  }

  /** The open questions of the fleet, the next deadline first. The cursor is the one of the last page. */
  async open({ cursor, limit = LISTED }: { readonly cursor?: string; readonly limit?: number } = {}): Promise<
    Page<QuestionRecord>
  > {
    const { keys, redis } = this;
    const lists = await Promise.all(
      keys
        .tags()
        .map(async (tag) =>
          redis.zrange(keys.shard(tag, 'asks:due'), 0, String(MOST_LISTED - 1), 'WITHSCORES'),
        ),
    );
    const places = lists
      .flatMap((list) => list.flatMap((id, i) => (i % 2 === 0 ? [placeOf(Number(list[i + 1]), id)] : [])))
      .sort();
    const after = cursor === undefined ? 0 : places.findIndex((place) => place > readCursor(cursor));
    const page = after < 0 ? [] : places.slice(after, after + limit);
    const last = page.at(-1);
    const found = await this.many(page.map(idOf));
    const items = inOrder(found, ({ deadlineAt }) => deadlineAt).filter(({ state }) => state === 'open');
    return last === undefined || last === places.at(-1) ? { items } : { items, nextCursor: last };
  }

  /** All questions of one execution, oldest first. */
  async ofExecution(executionId: string): Promise<QuestionRecord[]> {
    const key = this.keys.execution(executionId, 'asks');
    const fields = await this.quarantine.reading(key, async () => this.redis.hkeys(key));
    const records = await this.many(fields.filter((field) => parseQuestionId(field) !== undefined));
    return inOrder(records, ({ createdAt }) => createdAt);
  }

  /** One bounded pass over a shard: stores the denial of questions whose deadline has passed. */
  async settleOverdue(tag: string): Promise<void> {
    const key = this.keys.shard(tag, 'asks:due');
    const now = await this.scripts.valkey.timeAt(key);
    await this.many(await this.redis.zrangebyscore(key, '-inf', now, 'LIMIT', 0, BATCH));
  }

  /** Answered questions that are not in the audit log yet. */
  async unaudited(): Promise<QuestionId[]> {
    const { keys, redis } = this;
    const sets = await Promise.all(
      keys.tags().map(async (tag) => redis.srandmember(keys.shard(tag, 'asks:unaudited'), BATCH)),
    );
    return sets.flat();
  }

  /** Forgets a question that the audit log has, or whose record is gone. */
  async audited(id: QuestionId): Promise<void> {
    await this.redis.srem(this.keys.shard(this.keys.tagOf(this.executionOf(id)), 'asks:unaudited'), id);
  }

  private executionOf(id: QuestionId): string {
    const parsed = parseQuestionId(id);
    if (parsed === undefined) throw new NotFoundError('question', id);
    return parsed.executionId;
  }

  /** For each id: its record, the error why it cannot be read, or undefined where there is none. */
  private async read(
    executionId: string,
    ids: readonly QuestionId[],
  ): Promise<({ question: QuestionRecord } | { error: Error } | undefined)[]> {
    const texts = (await this.scripts.raw('readQuestions', executionId, ids)) as string[];
    const key = this.keys.execution(executionId, 'asks');
    return ids.map((id, i) => {
      const [text = '', words = ''] = texts.slice(2 * i, 2 * i + 2);
      if (text === '') return undefined;
      try {
        return { question: decode(key, executionId, id, text, words) };
      } catch (error) {
        void this.quarantine.note(error);
        return { error: error as Error };
      }
    });
  }
}

/** A question as the scripts write it. Its text is stored beside it. */
type StoredQuestion = Omit<QuestionRecord, 'id' | 'executionId' | 'question' | 'detail'> & {
  readonly request?: string;
};

function decode(key: string, executionId: string, id: string, text: string, words: string): QuestionRecord {
  if (text === '!') throw corrupt({ key, field: id, problem: 'it is no question' });
  const { request: _, ...stored } = parseStored<StoredQuestion>(key, text, id);
  const said = parseStored<{ question: string; detail?: unknown }>(key, words, `w:${id}`);
  return { ...stored, ...said, id, executionId };
}

/** Sorts by time, then by id. */
const placeOf = (at: number, id: string): string => `${String(at).padStart(15, '0')}:${id}`;
const idOf = (place: string): string => place.slice(place.indexOf(':') + 1);

function inOrder(
  questions: readonly QuestionRecord[],
  timeOf: (question: QuestionRecord) => number,
): QuestionRecord[] {
  const places = new Map(questions.map((question) => [placeOf(timeOf(question), question.id), question]));
  return [...places.keys()].sort().map((place) => places.get(place) as QuestionRecord);
}

/** @throws BelayError INVALID_REQUEST for a cursor that no page has answered */
function readCursor(cursor: string): string {
  if (/^\d{15}:/.test(cursor) && parseQuestionId(idOf(cursor)) !== undefined) return cursor;
  throw new UnknownCursorError();
}
