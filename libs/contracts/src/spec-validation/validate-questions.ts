import { z } from 'zod';
import {
  DEFAULT_CHOICES,
  DENIED,
  QUESTION_LIMITS,
  type AnswerRequest,
  type AskRequest,
  type CheckedAsk,
} from '../questions';
import { canonicalJson } from './canonical-spec';
import { check } from './check-request';
import { line, listOf, milliseconds, name, oneOf, says } from './fields';
import type { ProblemList } from './problem-list';

const askFields = {
  question: line(QUESTION_LIMITS.textLength),
  choices: listOf(
    line(QUESTION_LIMITS.choiceLength),
    QUESTION_LIMITS.choices,
    `a list of 1 to ${QUESTION_LIMITS.choices} choices`,
  ).optional(),
  detail: z.unknown().optional(),
  timeoutMs: milliseconds(QUESTION_LIMITS.minTimeoutMs, QUESTION_LIMITS.maxTimeoutMs).optional(),
  key: name('a name').optional(),
  whileWaiting: oneOf(['run', 'freeze']).optional(),
};
const askSchema = z.strictObject(
  askFields,
  says('an object with question, and perhaps choices, detail, timeoutMs, key and whileWaiting'),
);
const hashRule = says('the hash of the question that was seen: 64 hexadecimal digits');
const answerFields = {
  choice: line(QUESTION_LIMITS.choiceLength),
  hash: z.string(hashRule).regex(/^[0-9a-f]{64}$/, hashRule),
  reason: line(QUESTION_LIMITS.reasonLength).optional(),
};
const answerSchema = z.strictObject(answerFields, says('an object with choice, hash and perhaps reason'));

/** Checks a question, and fills in its defaults. @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateAsk(raw: unknown): CheckedAsk {
  const ask = check(askSchema, raw, Object.keys(askFields), ({ choices, ...rest }, problems) => {
    if (Array.isArray(choices)) checkChoices(choices, problems);
    // A value that JSON cannot carry has a problem of its own, and perhaps no end.
    if (problems.count === 0) checkSize({ ...rest, choices }, problems);
  }) as AskRequest;
  return { choices: DEFAULT_CHOICES, timeoutMs: QUESTION_LIMITS.defaultTimeoutMs, ...ask };
}

/** Checks an answer. @throws BelayError `INVALID_REQUEST` with every problem. */
export function validateAnswer(raw: unknown): AnswerRequest {
  return check(answerSchema, raw, Object.keys(answerFields)) as AnswerRequest;
}

/** The text whose SHA-256 an answer is bound to: all that a person sees of a question. */
export function canonicalQuestion({
  question,
  choices,
  detail,
}: Pick<AskRequest, 'question' | 'choices' | 'detail'>): string {
  return canonicalJson({ question, choices, detail });
}

function checkChoices(choices: readonly unknown[], problems: ProblemList): void {
  for (const [i, choice] of choices.entries()) {
    if (choice === DENIED)
      problems.add(['choices', i], 'ONE_OF', `must not be ${DENIED}: that is always possible.`);
    if (choices.indexOf(choice) !== i) problems.add(['choices', i], 'ONE_OF', 'must not be given twice.');
  }
}

function checkSize(ask: object, problems: ProblemList): void {
  const bytes = new TextEncoder().encode(canonicalQuestion(ask as AskRequest)).length;
  if (bytes <= QUESTION_LIMITS.maxBytes) return;
  problems.add(
    ['detail'],
    'TOO_LARGE',
    `must be shorter: question, choices and detail have ${bytes} bytes, at most ${QUESTION_LIMITS.maxBytes} are allowed. Store it elsewhere and name the place.`,
  );
}
