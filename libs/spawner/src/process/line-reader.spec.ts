import { PassThrough } from 'node:stream';
import { LineReader, readLines } from './line-reader';

function collect(maxLength = 10): { reader: LineReader; lines: [string, boolean][] } {
  const lines: [string, boolean][] = [];
  return { reader: new LineReader(maxLength, (line, cut) => lines.push([line, cut])), lines };
}

describe('lines of a byte stream', () => {
  it('are put together across chunks and handed out without newline, the last one too', () => {
    const { reader, lines } = collect();
    for (const chunk of ['a\nb', 'c', '\n\nd']) reader.write(Buffer.from(chunk));
    reader.end();
    expect(lines.map(([line]) => line)).toEqual(['a', 'bc', '', 'd']);
  });

  it('keep characters whole that two chunks share', () => {
    const { reader, lines } = collect();
    for (const byte of Buffer.from('é€\n')) reader.write(Buffer.from([byte]));
    expect(lines).toEqual([['é€', false]]);
  });

  it('are cut at their limit, once, and the next line is whole again', () => {
    const { reader, lines } = collect(3);
    reader.write(Buffer.from('abcd'));
    reader.write(Buffer.from('efgh\nabc\n'));
    expect(lines).toEqual([
      ['abc', true],
      ['abc', false],
    ]);
  });

  it('come from a stream until it closes, however it closes', async () => {
    const { reader, lines } = collect();
    const stream = new PassThrough();
    readLines(stream, reader);
    stream.write('half');
    await new Promise((resolve) => setImmediate(resolve));
    stream.destroy(new Error('the pipe broke'));
    await new Promise((resolve) => stream.once('close', resolve));
    expect(lines).toEqual([['half', false]]);
  });
});
