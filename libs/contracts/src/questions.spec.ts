import { BelayError } from './errors';
import { isQuestionId, parseQuestionId, QUESTION_LIMITS, questionIdOf } from './questions';
import { canonicalQuestion, validateAnswer, validateAsk } from './spec-validation';

const ULID = '01HZXW3V9K8Q2M4N6P7R5S0T1A';
const HASH = 'a'.repeat(64);

function told(act: () => unknown): string[] {
  try {
    act();
    return [];
  } catch (error) {
    if (!(error instanceof BelayError) || error.code !== 'INVALID_REQUEST') throw error;
    return error.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
  }
}

describe('the id of a question', () => {
  it('is made from the attempt that asks, and tells it', () => {
    const id = questionIdOf(`agt_${ULID}-3-2`, 7);
    expect(id).toBe(`ask_${ULID}-3-2-7`);
    expect(parseQuestionId(id)).toEqual({ agentId: `agt_${ULID}-3-2`, executionId: `exe_${ULID}`, n: 7 });
    expect(isQuestionId(id)).toBe(true);
  });

  it.each(['', 'ask_1', `ask_${ULID}-3-2`, `ask_${ULID}-3-2-0`, `agt_${ULID}-3-2-7`, `ask_${ULID}-3-2-7 `])(
    '%j is none',
    (id) => expect(isQuestionId(id)).toBe(false),
  );
});

describe('a question', () => {
  it('has choices and a deadline where the asker names none', () => {
    expect(validateAsk({ question: 'Deploy?' })).toStrictEqual({
      question: 'Deploy?',
      choices: ['yes', 'no'],
      timeoutMs: 3_600_000,
    });
    const whole = {
      question: 'Which?',
      choices: ['a', 'b'],
      detail: { x: [1] },
      timeoutMs: 100,
      key: 'k',
      whileWaiting: 'freeze',
    };
    expect(validateAsk({ ...whole })).toStrictEqual(whole);
  });

  it('bad input gets every problem', () => {
    expect(
      told(() =>
        validateAsk({
          question: '',
          choices: ['yes', 'yes', 'denied'],
          timeoutMs: 5,
          key: 'a b',
          chioces: [],
        }),
      ),
    ).toEqual([
      'question LENGTH must be a text of 1 to 2000 characters without control characters; it is "".',
      'timeoutMs RANGE must be a whole number of milliseconds from 100 to 2592000000; it is 5.',
      'key PATTERN must be a name of 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is "a b".',
      'chioces UNKNOWN_FIELD unknown field; did you mean choices?',
      'choices[1] ONE_OF must not be given twice.',
      'choices[2] ONE_OF must not be denied: that is always possible.',
    ]);
    expect(told(() => validateAsk(undefined))).toEqual([expect.stringContaining('REQUIRED')]);
    expect(told(() => validateAsk({ question: 'x', choices: [] }))).toEqual([
      expect.stringContaining('choices LENGTH'),
    ]);
    expect(told(() => validateAsk({ question: 'x', detail: { a: () => 1 } }))).toEqual([
      expect.stringContaining('detail.a NOT_JSON'),
    ]);
  });

  it('is refused where it is too large to be read, in bytes', () => {
    const detail = 'é'.repeat(QUESTION_LIMITS.maxBytes / 2);
    expect(told(() => validateAsk({ question: 'x', detail }))).toEqual([
      expect.stringMatching(
        /^detail TOO_LARGE must be shorter: question, choices and detail have \d+ bytes, at most 16384/,
      ),
    ]);
    expect(told(() => validateAsk({ question: 'x', detail: detail.slice(100) }))).toEqual([]);
  });

  it('is the same text however its detail was written', () => {
    const choices = ['yes'];
    const one = canonicalQuestion({ question: 'x', choices, detail: { a: 1, b: 2 } });
    expect(canonicalQuestion({ detail: { b: 2, a: 1 }, choices, question: 'x' })).toBe(one);
    expect(canonicalQuestion({ question: 'x', choices, detail: { a: 1, b: 3 } })).not.toBe(one);
    expect(canonicalQuestion({ question: 'x', choices: ['no'], detail: { a: 1, b: 2 } })).not.toBe(one);
  });
});

describe('an answer', () => {
  it('has a choice, the hash that was seen, and perhaps a reason', () => {
    const answer = { choice: 'yes', hash: HASH, reason: 'fine' };
    expect(validateAnswer({ ...answer })).toStrictEqual(answer);
    expect(validateAnswer({ choice: 'denied', hash: HASH })).toStrictEqual({ choice: 'denied', hash: HASH });
  });

  it('bad input gets every problem', () => {
    expect(told(() => validateAnswer({ hash: 'ABC', reason: '', by: 'me' }))).toEqual([
      'choice REQUIRED is missing; it must be a text of 1 to 64 characters without control characters.',
      'hash PATTERN must be the hash of the question that was seen: 64 hexadecimal digits; it is "ABC".',
      'reason LENGTH must be a text of 1 to 1024 characters without control characters; it is "".',
      'by UNKNOWN_FIELD unknown field; known here: choice, hash, reason.',
    ]);
    expect(told(() => validateAnswer(undefined))).toHaveLength(1);
  });
});
