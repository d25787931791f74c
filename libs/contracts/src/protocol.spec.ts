import fc from 'fast-check';
import { parseAgentMessage } from './protocol';

const read = (message: unknown) => parseAgentMessage(JSON.stringify(message));

describe('a line on file descriptor 3', () => {
  it.each<[unknown, unknown]>([
    [
      { type: 'cost', usd: 0 },
      { type: 'cost', usd: 0 },
    ],
    [
      { type: 'cost', usd: 0.25, model: 'x' },
      { type: 'cost', usd: 0.25 },
    ],
    [
      { type: 'cost', usd: 1, estimated: true },
      { type: 'cost', usd: 1, estimated: true },
    ],
    [
      { type: 'cost', usd: 1, estimated: false },
      { type: 'cost', usd: 1 },
    ],
    [
      { type: 'tokens', count: 0, model: 'x' },
      { type: 'tokens', count: 0 },
    ],
    [
      { type: 'tokens', count: 1e9 },
      { type: 'tokens', count: 1e9 },
    ],
    [
      { type: 'progress', value: { done: 1 } },
      { type: 'progress', value: { done: 1 } },
    ],
    [
      { type: 'progress', progress: 0.5 },
      { type: 'progress', value: 0.5 },
    ],
    [{ type: 'progress' }, { type: 'progress', value: null }],
    [
      { type: 'event', name: 'found' },
      { type: 'event', name: 'found' },
    ],
    [
      { type: 'event', name: 'found', data: null },
      { type: 'event', name: 'found', data: null },
    ],
    [
      { type: 'checkpoint', value: 7 },
      { type: 'checkpoint', value: 7 },
    ],
    [
      { type: 'checkpoint', checkpoint: 7 },
      { type: 'checkpoint', value: 7 },
    ],
    [{ type: 'checkpoint' }, { type: 'checkpoint', value: null }],
    [
      { type: 'result', value: [1] },
      { type: 'result', value: [1] },
    ],
    [
      { type: 'result', result: [1] },
      { type: 'result', value: [1] },
    ],
    [{ type: 'result' }, { type: 'result', value: null }],
    [
      { type: 'error', message: 'no room' },
      { type: 'error', code: 'EXIT', message: 'no room' },
    ],
    [
      { type: 'error', code: 'NO_ROOM', message: 'x'.repeat(3_000) },
      { type: 'error', code: 'NO_ROOM', message: `${'x'.repeat(2_000)}…` },
    ],
    [
      { type: 'error', message: `${'x'.repeat(1_999)}𝄞` },
      { type: 'error', code: 'EXIT', message: `${'x'.repeat(1_999)}…` },
    ],
  ])('%j is read', (message, expected) => {
    expect(read(message)).toStrictEqual(expected);
  });

  it.each<[unknown]>([
    [{ type: 'cost', usd: 1e300 }],
    [{ type: 'error' }],
    [{ type: 'error', message: '' }],
    [{ type: 'error', message: 'half \ud800' }],
    [{ type: 'error', code: 'no room', message: 'x' }],
    [{ type: 'error', code: 7, message: 'x' }],
    [{ type: 'event', name: 'half \ud800' }],
    [{ type: 'cost', usd: -1 }],
    [{ type: 'cost', usd: '1' }],
    [{ type: 'cost' }],
    [{ type: 'cost', usd: 1, estimated: 'yes' }],
    [{ type: 'tokens' }],
    [{ type: 'tokens', count: -1 }],
    [{ type: 'tokens', count: 1.5 }],
    [{ type: 'tokens', count: '1' }],
    [{ type: 'tokens', count: 1e9 + 1 }],
    [{ type: 'event' }],
    [{ type: 'event', name: '' }],
    [{ type: 'event', name: 'x'.repeat(129) }],
    [{ type: 'dance' }],
    [{}],
    [[{ type: 'result' }]],
    [null],
    ['result'],
  ])('%j is none', (message) => {
    expect(read(message)).toBeUndefined();
  });

  it('too large a number for a cost is none', () => {
    expect(parseAgentMessage('{"type":"cost","usd":1e999}')).toBeUndefined();
  });

  it('never throws', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
        expect(() => parseAgentMessage(line)).not.toThrow();
      }),
    );
  });
});

it('a line nested deeper than a JSON text may be is no message; brackets and escapes in strings do not count', () => {
  const nested = (depth: number) => `{"type":"result","value":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  expect(parseAgentMessage(nested(63))).toMatchObject({ type: 'result' });
  expect(parseAgentMessage(nested(64))).toBeUndefined();
  expect(parseAgentMessage(nested(200_000))).toBeUndefined();
  expect(read({ type: 'result', value: `${'['.repeat(100)}"\\{` })).toMatchObject({ type: 'result' });
});
