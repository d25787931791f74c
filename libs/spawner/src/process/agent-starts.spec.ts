import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentStarts, type StartParts } from './agent-starts';
import type { Guardian } from './guardian';
import { PipePool } from './pipe-pool';
import { failure } from './resolve-command';
import { TimeSliceQueue } from './time-slice-queue';

const REQUEST = {
  agentId: 'agt_1',
  command: ['true'],
  shell: false,
  cwd: tmpdir(),
  env: {},
  graceMs: 1,
  stdin: '',
} as const;

/** Starts whose guardian fails each with this reason. */
function startsFailing(
  reason: 'GUARDIAN' | 'OTHER',
  events: string[],
): { starts: AgentStarts; pipes: PipePool } {
  const pipes = new PipePool(mkdtempSync(join(tmpdir(), 'belay-starts-')), undefined);
  const guardian = {
    starts: {
      start: async () => {
        throw failure(reason, 'It died.');
      },
    },
  } as unknown as Guardian;
  const parts: StartParts = {
    cgroup: undefined,
    namespaced: false,
    cookie: 'worker',
    prepare: undefined,
    guardian,
    turns: new TimeSliceQueue(),
    pipes,
    endOrphans: async () => {
      await new Promise((resolve) => setImmediate(resolve));
      events.push('no orphan is left');
    },
  };
  return { starts: new AgentStarts(parts, () => undefined as never), pipes };
}

describe('R26 a start that is lost with its guardian', () => {
  it.each([
    ['GUARDIAN', ['no orphan is left', 'GUARDIAN']],
    ['OTHER', ['OTHER']],
  ] as const)('with reason %s fails only once no process of it can be left', async (reason, expected) => {
    const events: string[] = [];
    const { starts, pipes } = startsFailing(reason, events);
    try {
      await starts.start(REQUEST as never).catch((error: { details: { reason: string } }) => {
        events.push(error.details.reason);
      });
      expect(events).toEqual(expected);
    } finally {
      await pipes.close();
    }
  });
});
