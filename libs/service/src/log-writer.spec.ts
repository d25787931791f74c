import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../../test/support/wait';
import { LogWriter } from './log-writer';

describe('a log that cannot be written', () => {
  let dir: string;
  let path: string;
  let fd: number;
  let reader: number | undefined;
  const read = (): string => {
    const bytes = Buffer.alloc(1 << 20);
    try {
      return bytes.toString('utf8', 0, readSync(reader ?? -1, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return '';
      throw error;
    }
  };
  const openReader = (): void => void (reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  const closeReader = (): void => {
    if (reader !== undefined) closeSync(reader);
    reader = undefined;
  };

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'belay-log-'));
    path = join(dir, 'log');
    execFileSync('mkfifo', [path]);
    openReader();
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  });
  afterEach(() => {
    closeReader();
    closeSync(fd);
    rmSync(dir, { recursive: true, force: true });
  });

  it('keeps the oldest lines, counts the others, and says so once it can be written again', async () => {
    const told: string[] = [];
    const writer = new LogWriter(fd, 20);
    writer.onDropped = (lines, code) => {
      told.push(`${lines} ${code}`);
      writer.write('told\n');
    };
    writer.write('before\n');
    let seen = '';
    await until(() => (seen += read()) === 'before\n' && writer.waitingBytes === 0, 'the first line');
    closeReader();
    for (let i = 0; i < 10; i++) writer.write(`line ${i}\n`);
    await until(() => writer.isStuck, 'the refusal');
    // Nothing is reported while nothing can be written, and the process that logs does not end.
    expect(told).toEqual([]);
    openReader();
    await until(() => (seen += read()).endsWith('told\n'), 'the lines that waited');
    expect(told).toEqual(['8 EPIPE']);
    expect(seen).toBe('before\nline 0\nline 1\ntold\n');
  });

  it('is not waited for at the end of the process, nor tried again', async () => {
    const full = openSync('/dev/full', 'w');
    const writer = new LogWriter(full);
    writer.write('one\n');
    writer.write('two\n');
    writer.flushSync();
    // The system has the first line and refuses it; the second was given up.
    expect(writer.waitingBytes).toBeLessThanOrEqual('one\n'.length);
    // By the time of another try the descriptor would belong to another file.
    await until(() => writer.waitingBytes === 0, 'the refusal of the first line');
    expect(writer.isStuck).toBe(false);
    closeSync(full);
  });

  it('whose reader is slow gets every line in its order', async () => {
    const writer = new LogWriter(fd, 10 << 20);
    const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`);
    for (const line of lines) writer.write(line);
    let seen = '';
    await until(() => (seen += read()).length >= lines.join('').length, 'every line');
    expect(seen).toBe(lines.join(''));
  });
});
