import { z } from 'zod';
import { DEFAULT_CHOICES, DENIED, QUESTION_LIMITS } from '../questions';
import { canonicalJson } from './canonical-spec';
import { shape } from './check-request';
import { line, listOf, milliseconds, name, oneOf, says } from './fields';
import type { ProblemList } from './problem-list';

const checkAsk = shape(
  {
    question: line(QUESTION_LIMITS.textLength),
    /** Default: yes and no. `denied` is always possible and must not be named. */
    choices: listOf(
      line(QUESTION_LIMITS.choiceLength),
      QUESTION_LIMITS.choices,
      `a list of 1 to ${QUESTION_LIMITS.choices} choices`,
    ).optional(),
    /** Further information that the person must see before the answer: any JSON. */
    detail: z.unknown().optional(),
    /** From now on, by the server's clock. Default: one hour. */
    timeoutMs: milliseconds(QUESTION_LIMITS.minTimeoutMs, QUESTION_LIMITS.maxTimeoutMs).optional(),
    /**
     * A name of the question within its attempt. The same words asked again under it are the same question; other words cancel
     * the open one and are another question.
     */
    key: name('a name').optional(),
    /** `freeze`: the asker's whole tree stands still until the answer. Default: `run`. */
    whileWaiting: oneOf(['run', 'freeze']).optional(),
  },
  'an object with question, and perhaps choices, detail, timeoutMs, key and whileWaiting',
  {
    more: ({ choices, ...rest }, problems) => {
      if (Array.isArray(choices)) checkChoices(choices, problems);
      // A value that JSON cannot carry has a problem of its own, and may be infinite.
      if (problems.count === 0) checkSize({ ...rest, choices }, problems);
    },
  },
);
/** A question of an agent to people. */
export type AskRequest = ReturnType<typeof checkAsk>;

/** A request after its check, with defaults filled in. */
export interface CheckedAsk extends AskRequest {
  readonly choices: readonly string[];
  readonly timeoutMs: number;
}

/** Checks a question, and fills in its defaults. @throws BelayError `INVALID_REQUEST` with every problem. */
export const validateAsk = (raw: unknown): CheckedAsk => ({
  choices: DEFAULT_CHOICES,
  timeoutMs: QUESTION_LIMITS.defaultTimeoutMs,
  ...checkAsk(raw),
});

const hashRule = says('the hash of the question that was seen: 64 hexadecimal digits');
/** Checks an answer. @throws BelayError `INVALID_REQUEST` with every problem. */
export const validateAnswer = shape(
  {
    /** One of the question's choices, or `denied`. */
    choice: line(QUESTION_LIMITS.choiceLength).describe('One of its choices, or denied.'),
    /** The `hash` of the question that the person saw: an answer is valid for these words only. */
    hash: z
      .string(hashRule)
      .regex(/^[0-9a-f]{64}$/, hashRule)
      .describe('The hash of the question that was read.'),
    /** A person's words. */
    reason: line(QUESTION_LIMITS.reasonLength).optional().describe("A person's words."),
  },
  'an object with choice, hash and perhaps reason',
);
/** A person's answer. */
export type AnswerRequest = ReturnType<typeof validateAnswer>;

/** The text whose SHA-256 binds an answer: everything that a person sees of a question. */
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
