import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BelayError, type NodeSpec } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import { advanceAll, createExecution, node, spec, useLife } from '../../../test/support/life';
import { NOT_STARTED } from './agent-outcome';
import { closeInput, gatherInput, inputFailed, type AgentInput } from './agent-input';
import type { ProcessHost } from './process';
import { InputFile } from './process/input-file';

let life: LifecycleService;
let folder: string;

useLife((rig) => ({ life } = rig));
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'belay-input-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const host = { newInput: async () => InputFile.create(folder) } as unknown as ProcessHost;

/** An execution whose last node depends on `count` done nodes with that result. */
async function fanIn(count: number, result: unknown): Promise<{ id: string; last: NodeSpec }> {
  const parents = Array.from({ length: count }, (_, i) => node(`p${i}`));
  const last = node('last', { dependsOn: parents.map((one) => one.id), input: { own: 1 } });
  const id = await createExecution(life, spec([...parents, last]));
  for (const entry of await advanceAll(life, id)) {
    const claim = await life.agents.claim(entry, 'wrk_x', 't');
    if (!claim.claimed) throw new Error(claim.why);
    await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'marks' });
    await life.agents.finish(claim.fence, { state: 'completed', result });
  }
  return { id, last };
}

async function gather(id: string, of: NodeSpec, isOff = () => false): Promise<AgentInput> {
  const claim = { node: of, isRecovery: false };
  return gatherInput(life, host, { executionId: id, attempt: 1 }, claim, [], isOff);
}

function read(input: AgentInput): unknown {
  const text = typeof input === 'string' ? input : readFileSync(input.take(), 'utf8');
  return JSON.parse(text);
}

it('a short input stays in memory, and is a line', async () => {
  const { id, last } = await fanIn(2, { n: 1 });
  const input = await gather(id, last);
  expect(input).toMatch(/\}\n$/);
  expect(read(input)).toEqual({
    input: { own: 1 },
    upstream: { p0: { n: 1 }, p1: { n: 1 } },
    attempt: 1,
    isRecovery: false,
    lastCheckpoint: null,
    earlierEvents: [],
  });
});

it('a long one is written to a file piece by piece, with the same content', async () => {
  const text = 'x'.repeat(200_000);
  const { id, last } = await fanIn(8, text);
  const input = await gather(id, last);
  expect(input).toBeInstanceOf(InputFile);
  expect(read(input)).toMatchObject({
    input: { own: 1 },
    upstream: Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`p${i}`, text])),
    earlierEvents: [],
  });
  await closeInput(input);
});

it('a result that cannot be read is named, and ends the attempt', async () => {
  const { id, last } = await fanIn(2, { n: 1 });
  await life.valkey.redis.hset(life.valkey.keys.execution(id, 'results'), 'p1', '{broken');
  const error = await gather(id, last).catch((raised: unknown) => raised);
  expect(inputFailed(error)).toMatchObject({
    state: 'failed',
    error: { code: 'CORRUPT_RECORD' },
    report: NOT_STARTED,
  });
});

it('a full disk is reported as such, and the begun file is removed', async () => {
  const { id, last } = await fanIn(8, 'x'.repeat(200_000));
  rmSync(folder, { recursive: true });
  const error = await gather(id, last).catch((raised: unknown) => raised);
  expect(inputFailed(error)).toMatchObject({
    report: NOT_STARTED,
    error: { code: 'INPUT_NOT_WRITTEN', message: expect.stringContaining('ENOENT') as string },
  });
});

it('more than a gibibyte is refused with a code of its own', () => {
  const error = new BelayError('SPAWN_FAILED', 'too much', { details: { reason: 'UPSTREAM_TOO_LARGE' } });
  expect(inputFailed(error)).toMatchObject({ error: { code: 'UPSTREAM_TOO_LARGE' } });
});

it('a file of input is given away once', async () => {
  const file = await InputFile.create(folder);
  file.take();
  expect(() => file.take()).toThrow('given away already');
  await file.close();
});
