import { PassThrough } from 'node:stream';
import { LineSplitter, readLines, type PieceEnd } from './line-splitter';

function collect(maxBytes = 10): { splitter: LineSplitter; pieces: [string, PieceEnd][]; raw: Buffer[] } {
  const pieces: [string, PieceEnd][] = [];
  const raw: Buffer[] = [];
  const splitter = new LineSplitter(maxBytes, (bytes, end) => {
    raw.push(bytes);
    pieces.push([bytes.toString(), end]);
  });
  return { splitter, pieces, raw };
}

describe('lines of a byte stream', () => {
  it('are put together across chunks and handed out without newline, the last one too', () => {
    const { splitter, pieces } = collect();
    expect(['a\nb', 'c\n', '\n', 'd'].map((text) => splitter.write(Buffer.from(text)))).toEqual([1, 1, 1, 0]);
    splitter.end();
    splitter.end();
    expect(pieces).toEqual([
      ['a', 'newline'],
      ['bc', 'newline'],
      ['', 'newline'],
      ['d', 'close'],
    ]);
  });

  it('keep every byte, UTF-8 or not, wherever the chunks are cut', () => {
    const all = Buffer.from([0xff, 0xfe, 0xc3, 0xa9, 0x0a, 0x80]);
    const { splitter, raw } = collect();
    for (const byte of all) splitter.write(Buffer.from([byte]));
    splitter.end();
    expect(raw).toEqual([all.subarray(0, 4), all.subarray(5)]);
  });

  it('come in pieces at their limit, and the next line is whole again', () => {
    const { splitter, pieces } = collect(3);
    splitter.write(Buffer.from('abcd'));
    splitter.write(Buffer.from('efgh\nabc\n'));
    expect(pieces).toEqual([
      ['abc', 'limit'],
      ['def', 'limit'],
      ['gh', 'newline'],
      ['abc', 'newline'],
    ]);
  });

  it.each([
    ['é', 'aéb', ['aé', 'b']],
    ['€ at the limit', 'ab€c', ['ab', '€', 'c']],
    ['four bytes', 'a😀b', ['a', '😀', 'b']],
  ])('are cut between characters: %s', (_name, text, expected) => {
    const { splitter, pieces } = collect(_name === 'four bytes' ? 4 : 3);
    splitter.write(Buffer.from(`${text}\n`));
    expect(pieces.map(([piece]) => piece)).toEqual(expected);
  });

  it('that are no UTF-8 at the limit are cut there', () => {
    const { splitter, raw } = collect(4);
    splitter.write(Buffer.alloc(10, 0x80));
    splitter.end();
    expect(raw.map((piece) => piece.length)).toEqual([4, 4, 2]);
  });

  it('come from a stream until it closes, however it closes, cut at their limit', async () => {
    const lines: string[] = [];
    const stream = new PassThrough();
    readLines(stream, 6, (line) => lines.push(line));
    stream.write('longer than that\nhalf');
    await new Promise((resolve) => setImmediate(resolve));
    stream.destroy(new Error('the pipe broke'));
    await new Promise((resolve) => stream.once('close', resolve));
    expect(lines).toEqual(['longer', 'half']);
  });
});
