import type { GuardianMessage } from './guardian-protocol';
import { encodeStart, MessageReader } from './start-order';

const plan = (env: Record<string, string>) => ({ file: '/bin/a', cwd: '/', argv: ['a', 'b c'], env });
const lineOf = (message: GuardianMessage) => Buffer.from(`${JSON.stringify(message)}\n`);

function readAll(bytes: Buffer, chunk: number): [GuardianMessage, string][] {
  const seen: [GuardianMessage, string][] = [];
  const reader = new MessageReader((message, strings) => seen.push([message, strings.toString()]));
  // Like the guardian: one buffer for every read.
  const memory = Buffer.alloc(chunk);
  for (let at = 0; at < bytes.length; at += chunk)
    reader.write(memory.subarray(0, bytes.copy(memory, 0, at, at + chunk)));
  return seen;
}

describe('a start on its way to the guardian', () => {
  it.each([1, 2, 7, 64, 65_536])('comes as it went, read in pieces of %i bytes', (chunk) => {
    // A variable that looks like a message is not one.
    const { order, strings } = encodeStart(plan({ A: '\n{"type":"bye"}\n', B: '中', C: '' }));
    const start = { type: 'start', id: 7, ...order } as const;
    const ping = { type: 'ping', nonce: 1 } as const;
    const sent = Buffer.concat([lineOf(ping), lineOf(start), strings, lineOf(start), strings, lineOf(ping)]);
    const text = 'a\0b c\0A=\n{"type":"bye"}\n\0B=中\0C=\0';
    expect(readAll(sent, chunk)).toEqual([
      [ping, ''],
      [start, text],
      [start, text],
      [ping, ''],
    ]);
    expect(order).toEqual({ file: '/bin/a', cwd: '/', args: 2, bytes: Buffer.byteLength(text) });
  });

  it('is copied once, however many reads it takes', () => {
    const { order, strings } = encodeStart(plan({ A: 'x'.repeat(4_000_000) }));
    const watch = { type: 'ping', nonce: 1, pad: 'y'.repeat(4_000_000) } as GuardianMessage;
    const sent = Buffer.concat([lineOf({ type: 'start', id: 1, ...order }), strings, lineOf(watch)]);
    let copied = 0;
    const concat = jest.spyOn(Buffer, 'concat').mockImplementation((list) => {
      const bytes = list.reduce((sum, { length }) => sum + length, 0);
      copied += bytes;
      return Buffer.from(list.map((piece) => Buffer.from(piece).toString('latin1')).join(''), 'latin1');
    });
    const seen = readAll(sent, 1_024);
    concat.mockRestore();
    expect(seen.map(([{ type }, text]) => [type, text.length])).toEqual([
      ['start', strings.length],
      ['ping', 0],
    ]);
    expect(copied).toBeLessThanOrEqual(sent.length);
  });

  it.each([
    ['many characters', 'x'.repeat(7_000_000)],
    ['few characters of many bytes', '中'.repeat(2_200_000)],
  ])('is refused before it goes when no system takes as much: %s', (_name, A) => {
    expect(() => encodeStart(plan({ A }))).toThrow(expect.objectContaining({ code: 'E2BIG' }));
  });
});
