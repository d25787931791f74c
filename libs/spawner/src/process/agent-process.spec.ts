import type { AgentOutput } from './agent-output';
import { RunningAgent } from './agent-process';
import type { ExitListener } from './first-process';
import type { ProcessTree } from './process-tree';
import { TimeSliceQueue } from './time-slice-queue';

let exit: ExitListener;
/** A process of the tree outlives the first one. */
let isLeft: boolean;
let agent: RunningAgent;
beforeEach(() => {
  isLeft = true;
  const leader = { pid: 1, startTime: '1' };
  const tree = {
    containment: 'marks',
    leader,
    markReaped: () => undefined,
    terminate: () => undefined,
    terminateFound: () => undefined,
    kill: () => (isLeft = false),
    search: async () => undefined,
    quiet: () => !isLeft,
    proveEmpty: async () => !isLeft,
    onChange: () => () => undefined,
    freeze: async () => undefined,
    thaw: () => undefined,
    processes: () => [],
    dispose: () => true,
  } as unknown as ProcessTree;
  const output = { finish: async () => undefined, startError: () => undefined } as unknown as AgentOutput;
  const identity = { ...leader, bootId: 'b' };
  const first = { onExit: (listener: ExitListener) => void (exit = listener) };
  const setting = {
    isolation: 'user' as const,
    killWaitMs: 1_000,
    drainMs: 1,
    turns: new TimeSliceQueue(),
    onProved: () => undefined,
  };
  agent = new RunningAgent('agt_1', identity, [], first, tree, output, 60_000, setting);
});
afterEach(async () => {
  void agent.stop({ mode: 'immediate', graceMs: 0 });
  exit(null, 'SIGKILL');
  await agent.ended;
});

it('R51 the report of an end says how the agent was isolated', async () => {
  void agent.stop({ mode: 'immediate', graceMs: 0 });
  exit(null, 'SIGKILL');
  expect((await agent.ended).report).toMatchObject({ isolation: 'user', containment: 'marks', proved: true });
});

describe('R22 R51 a freeze of a tree that is being ended', () => {
  it('fails while it has its grace to end', async () => {
    void agent.stop({ mode: 'graceful', graceMs: 60_000 });
    await expect(agent.freeze()).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
  });

  it('fails while what outlives its first process has its grace to end', async () => {
    exit(0, null);
    await expect(agent.freeze()).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
  });

  it('is answered where nothing ends it', async () => {
    await expect(agent.freeze()).resolves.toBeUndefined();
  });
});
