import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentRecord } from '#libs/contracts';
import { LogSweeper } from './log-sweeper';

const id = (n: number): string => `agt_01HZZZZZZZZZZZZZZZZZZZZZZZ-${n}-1`;

describe("log files of a worker's folder", () => {
  let logDir: string;
  let states: Map<string, string>;
  let busy: string[];
  beforeEach(() => {
    logDir = mkdtempSync(join(tmpdir(), 'belay-logs-'));
    states = new Map();
    busy = [];
  });
  afterEach(() => rmSync(logDir, { recursive: true, force: true }));

  function sweeper(maxBytes: number, maxAgents = 1_000, unknownKeptMs = 0): LogSweeper {
    const named = async (ids: readonly string[]) =>
      ids.flatMap((one) =>
        states.has(one) ? [{ id: one, state: states.get(one) } as unknown as AgentRecord] : [],
      );
    const onError = (error: unknown) => {
      throw error;
    };
    const options = { logDir, maxBytes, maxAgents, unknownKeptMs, busy: () => busy, onError };
    return new LogSweeper({ named }, options);
  }

  /** A log of that age in seconds, with 100 bytes in each file. */
  function log(n: number, state: string | undefined, age: number, parts = ['']): void {
    if (state !== undefined) states.set(id(n), state);
    for (const part of parts) {
      const path = join(logDir, `${id(n)}.log${part}`);
      writeFileSync(path, 'x'.repeat(100));
      utimesSync(path, Date.now() / 1_000 - age, Date.now() / 1_000 - age);
    }
  }

  it('go with their execution, all of an agent at once', async () => {
    log(1, undefined, 5, ['', '.1', '.2']);
    log(2, 'completed', 5);
    writeFileSync(join(logDir, 'not-ours.txt'), '');
    expect(await sweeper(1e9).sweep()).toEqual([id(1)]);
    expect(readdirSync(logDir).toSorted()).toEqual([`${id(2)}.log`, 'not-ours.txt']);
  });

  it('stay for a while when the server does not know them: it may be coming back', async () => {
    log(1, undefined, 5);
    expect(await sweeper(0, 0, 60_000).sweep()).toEqual([]);
  });

  it('stay while their agent runs, whatever they take, and whatever the record says of one that is ours', async () => {
    log(1, 'running', 50);
    log(2, 'spawning', 50);
    log(3, 'failed', 50);
    log(4, undefined, 50);
    busy = [id(3), id(4)];
    expect(await sweeper(0, 0).sweep()).toEqual([]);
  });

  it.each([
    ['bytes', 300, 1_000],
    ['agents', 1e9, 2],
  ])('go, the oldest ended first, when there are too many %s', async (_what, maxBytes, maxAgents) => {
    log(1, 'completed', 10);
    log(2, 'failed', 30, ['', '.1']);
    log(3, 'running', 99);
    log(4, 'killed', 20);
    expect(await sweeper(maxBytes, maxAgents).sweep()).toEqual(maxAgents === 2 ? [id(2), id(4)] : [id(2)]);
  });

  it('are left alone when the server cannot be asked', async () => {
    log(1, 'completed', 10);
    const named = async () => Promise.reject(new Error('away'));
    const options = { logDir, maxBytes: 0, maxAgents: 0, busy: () => busy, onError: () => undefined };
    await expect(new LogSweeper({ named }, options).sweep()).rejects.toThrow('away');
    expect(readdirSync(logDir)).toHaveLength(1);
  });
});
