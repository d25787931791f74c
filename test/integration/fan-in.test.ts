import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import { prepareFanIn, RESULT_KIB, runFanIn } from '../../bench/support/fan-in';
import { useLife } from '../support/life';

/** `npm run bench -- fan-in` runs 2,000 and measures times; here bytes are counted. */
const PARENTS = 400;

let life: LifecycleService;
let valkey: Valkey;
let dataDir: string;

useLife((rig) => ({ life, valkey } = rig));
beforeEach(() => (dataDir = mkdtempSync(join(tmpdir(), 'belay-fan-in-'))));
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

it('R36 the results of many parents reach an agent whole, and no reply of the server carries more than a quarter of a mebibyte of them', async () => {
  const fanIn = await prepareFanIn(life, PARENTS);
  const replies: number[] = [];
  for (const name of ['hmget', 'evalsha'] as const) {
    const send = valkey.redis[name].bind(valkey.redis) as (...args: never[]) => Promise<unknown>;
    jest.spyOn(valkey.redis, name).mockImplementation((async (...args: never[]) => {
      const reply = await send(...args);
      replies.push(JSON.stringify(reply).length);
      return reply;
    }) as never);
  }
  const run = await runFanIn(life, fanIn, dataDir);
  jest.restoreAllMocks();
  expect(Math.max(...replies)).toBeLessThan(0.3 * 1024 * 1024);
  expect(replies.length).toBeGreaterThanOrEqual(PARENTS);
  expect(run.result.bytes).toBeGreaterThan(PARENTS * (RESULT_KIB * 1024 - 16));
  expect(run.result.first).toMatch(/^\{"input":null,"upstream":\{"p0":\{"text":"xxx/);
  expect(run.result.last).toMatch(/"isRecovery":false,"lastCheckpoint":null,"earlierEvents":\[\]\}\n$/);
});
