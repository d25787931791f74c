import type { LifecycleService, LogEntry } from '#libs/lifecycle';
import { useLife } from '../../../test/support/life';
import { KeptLines } from './kept-lines';

let life: LifecycleService;
useLife((rig) => ({ life } = rig));

const EXE = 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ';

it.each([
  ['short lines', 3_000, () => 5],
  ['long lines', 400, (i: number) => (i * 7_919) % 3_000],
  ['one line longer than all that is kept', 300, (i: number) => (i === 250 ? 300_000 : 10)],
  ['few lines', 150, () => 20],
])(
  'counts the lines that the server leaves out like the log itself, of %s',
  async (name, count, lengthOf) => {
    const agent = `agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-${count}-1`;
    const kept = new KeptLines();
    const entries: LogEntry[] = [];
    let offset = 0;
    for (let n = 1; n <= count; n++) {
      const bytes = Buffer.alloc(lengthOf(n), 'x');
      // Every tenth line has no newline yet.
      const ends = n % 10 !== 0;
      entries.push({ n, offset, stream: 'stdout', bytes, ends });
      kept.add(bytes.length, bytes.length + (ends ? 1 : 0));
      offset += bytes.length + (ends ? 1 : 0);
    }
    entries.push({ n: count + 1, offset, stream: 'end', bytes: Buffer.alloc(0), ends: true });
    for (let at = 0; at < entries.length; at += 170)
      await life.logs.append(EXE, agent, entries.slice(at, at + 170));
    const { skipped } = await life.logs.read(EXE, agent);
    expect([name, kept.leftOut]).toEqual([name, skipped]);
  },
);
