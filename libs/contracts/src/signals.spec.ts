import { BelayError } from './errors';
import { parseAgentMessage } from './protocol';
import { requireSignal, validateSignal } from './spec-validation';

function told(act: () => unknown): string[] {
  try {
    act();
    return [];
  } catch (error) {
    if (!(error instanceof BelayError) || error.code !== 'INVALID_REQUEST') throw error;
    return error.problems.map(({ path, code, message }) => `${path} ${code} ${message}`);
  }
}

describe('a signal', () => {
  it('has any payload, or none', () => {
    expect(validateSignal(undefined)).toEqual({});
    expect(validateSignal({ payload: [1] })).toEqual({ payload: [1] });
    expect(told(() => validateSignal({ paylod: 1 }))).toEqual([
      'paylod UNKNOWN_FIELD unknown field; did you mean payload?',
    ]);
    expect(told(() => validateSignal([]))).toEqual([
      expect.stringContaining('must be an object with payload, or nothing'),
    ]);
  });

  it('has a name as nodes have', () => {
    expect(requireSignal('approved.2')).toBe('approved.2');
    expect(told(() => requireSignal('a b'))).toEqual([
      'name PATTERN must be the name of a signal, 1 to 64 of the characters A-Z a-z 0-9 _ . -; it is "a b".',
    ]);
  });
});

describe('R23 an agent that suspends its node', () => {
  it('names the signal, and waits for seven days unless it says otherwise', () => {
    expect(parseAgentMessage('{"type":"suspend","name":"approved"}')).toEqual({
      type: 'suspend',
      name: 'approved',
      maxAgeMs: 604_800_000,
    });
    expect(parseAgentMessage('{"type":"suspend","name":"a","maxAgeMs":100}')).toMatchObject({
      maxAgeMs: 100,
    });
  });

  it.each([
    '{"type":"suspend"}',
    '{"type":"suspend","name":"a b"}',
    '{"type":"suspend","name":"a","maxAgeMs":99}',
    '{"type":"suspend","name":"a","maxAgeMs":1.5}',
    '{"type":"suspend","name":"a","maxAgeMs":"7d"}',
    '{"type":"suspend","name":"a","maxAgeMs":99999999999}',
  ])('%s is a bad line', (line) => expect(parseAgentMessage(line)).toBeUndefined());
});
