import { randomUUID } from 'node:crypto';
import type { Valkey } from '#libs/valkey';
import type { LifecycleService } from './lifecycle.service';
import { LOG_LIMITS, type LogEntry } from './log-store';
import { useLife } from '../../../test/support/life';

let life: LifecycleService;
let valkey: Valkey;
useLife((rig) => ({ life, valkey } = rig));

const EXE = 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const FILE = { workerId: 'wrk_1', host: 'here', path: '/x.log' };

/** An agent's output as entries, numbered as the worker numbers them. */
function entriesOf(...lines: readonly (string | Buffer)[]): LogEntry[] {
  let offset = 0;
  return lines.map((line, i) => {
    const bytes = Buffer.from(line as string);
    const entry: LogEntry = { n: i + 1, offset, stream: 'stdout', bytes, ends: true };
    offset += bytes.length + 1;
    return entry;
  });
}

function endOf(entries: readonly LogEntry[]): LogEntry {
  const last = entries.at(-1);
  const offset = last === undefined ? 0 : last.offset + last.bytes.length + (last.ends ? 1 : 0);
  return { n: entries.length + 1, offset, stream: 'end', bytes: Buffer.alloc(0), ends: true };
}

describe("an agent's log on the server", () => {
  let agent: string;
  const append = async (entries: readonly LogEntry[], file?: typeof FILE) =>
    life.logs.append(EXE, agent, entries, file);
  const read = async () => life.logs.read(EXE, agent);
  beforeEach(() => (agent = `agt_${randomUUID()}`));

  it('is empty before anything was written', async () => {
    const nothing = { lines: 0, bytes: 0 };
    expect(await read()).toEqual({ lines: [], total: nothing, skipped: nothing, ended: false });
  });

  it('gives every byte back, tells streams and unended lines apart, and where the file is', async () => {
    const [out, odd, err] = entriesOf('é', Buffer.from([0xff, 0xfe]), 'no newline') as [
      LogEntry,
      LogEntry,
      LogEntry,
    ];
    const entries = [out, odd, { ...err, stream: 'stderr' as const, ends: false }];
    await append(entries, FILE);
    await append([endOf(entries)], { ...FILE, lostBytes: 3 } as typeof FILE);
    const logs = await read();
    expect(logs).toMatchObject({
      total: { lines: 3, bytes: 3 + 3 + 10 },
      skipped: { lines: 0, bytes: 0 },
      ended: true,
      file: { ...FILE, lostBytes: 3 },
    });
    const strip = ({ id, at, ...line }: (typeof logs.lines)[number]) => {
      expect(id.startsWith(String(at))).toBe(true);
      return line;
    };
    expect(logs.lines.map(strip)).toEqual([
      { n: 1, stream: 'stdout', line: 'é' },
      { n: 2, stream: 'stdout', line: '\uFFFD\uFFFD', base64: '//4=' },
      { n: 3, stream: 'stderr', line: 'no newline', partial: true },
    ]);
  });

  it('takes lines once, however often they are sent', async () => {
    const entries = entriesOf('a', 'b', 'c');
    await append(entries.slice(0, 2));
    await append(entries.slice(0, 2));
    await append(entries);
    expect((await read()).lines.map(({ line }) => line)).toEqual(['a', 'b', 'c']);
  });

  it('keeps the first and the last lines of a long one, and reports the lines in between', async () => {
    const all = Array.from({ length: 5_000 }, (_, i) => `line ${i}`);
    const entries = entriesOf(...all);
    for (let i = 0; i < entries.length; i += 700) await append(entries.slice(i, i + 700));
    await append([endOf(entries)]);
    const { lines, total, skipped } = await read();
    const { headLines, tailLines } = LOG_LIMITS;
    // The end entry takes the place of no line.
    const expected = [...all.slice(0, headLines), ...all.slice(-tailLines)];
    expect(lines.map(({ line }) => line)).toEqual(expected);
    const gone = all.slice(headLines, -tailLines);
    const size = { lines: gone.length, bytes: gone.join('\n').length + 1 };
    expect({ total, skipped }).toEqual({
      total: { lines: 5_000, bytes: all.join('\n').length + 1 },
      skipped: size,
    });
    expect(lines.filter((line) => line.skipped !== undefined)).toMatchObject([
      { n: 5_000 - tailLines + 1, skipped: size },
    ]);
  });

  it('keeps a bounded number of bytes, and the last line however long it is', async () => {
    const long = 'x'.repeat(LOG_LIMITS.tailBytes + 1);
    const entries = entriesOf('first', 'y'.repeat(LOG_LIMITS.headBytes), 'short', long);
    await append(entries);
    expect((await read()).lines.map(({ line }) => line.length)).toEqual([5, long.length]);
    const memory = (await valkey.redis.memory('USAGE', life.logs.key(EXE, agent))) as number;
    expect(memory).toBeLessThan(2 * LOG_LIMITS.tailBytes);
  });

  it('reports lines that were never sent, between lines and before the end', async () => {
    const entries = entriesOf('a', 'bb', 'ccc', 'd');
    await append([entries[2]!, endOf(entries)]);
    const { lines, total, skipped } = await read();
    expect(lines).toMatchObject([{ line: 'ccc', skipped: { lines: 2, bytes: 5 } }]);
    expect({ total, skipped }).toEqual({ total: { lines: 4, bytes: 11 }, skipped: { lines: 3, bytes: 7 } });
  });

  it('goes with its execution: it has an end from the first line on', async () => {
    await append(entriesOf('a'));
    for (const key of [life.logs.key(EXE, agent), `${life.logs.key(EXE, agent)}:meta`])
      expect(await valkey.redis.pttl(key)).toBeGreaterThan(60_000);
  });

  it('that was overwritten by something else is a corrupt record', async () => {
    await valkey.redis.set(life.logs.key(EXE, agent), 'text');
    await expect(read()).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
    const other = `agt_${randomUUID()}`;
    await valkey.redis.hset(`${life.logs.key(EXE, other)}:meta`, 'about', '{');
    await expect(life.logs.read(EXE, other)).rejects.toMatchObject({ code: 'CORRUPT_RECORD' });
  });
});
