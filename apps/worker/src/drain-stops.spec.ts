import { AgentSlot, type AgentRunner, type StopCause } from '#libs/spawner';
import { DrainStops } from './drain-stops';

const FLEET_MS = 2_000;
const PATIENCE_MS = 30_000;

/** When each agent was stopped, after the beginning of the drain, and with which grace. */
let stops: { agentId: string; atMs: number; graceMs: number | undefined }[];
let slots: AgentSlot[];
let becomeIdle: () => void;
let begunAt: number;

beforeEach(() => {
  jest.useFakeTimers();
  stops = [];
  slots = [];
  begunAt = performance.now();
});
afterEach(() => jest.useRealTimers());

function agent(name: string, graceMs?: number): AgentSlot {
  const slot = new AgentSlot({ agentId: name, executionId: 'exe_1', nodeId: name, attempt: 1 }, 'wrk_1');
  slot.granted({
    fence: { agentId: name, owner: 'wrk_1', epoch: 1 },
    claimedAt: 1,
    born: 1,
    pool: 'default',
    labels: {},
    node: graceMs === undefined ? {} : { graceMs },
  });
  slots.push(slot);
  return slot;
}

/** A drain of a worker that runs those slots. */
function drain(patienceMs = PATIENCE_MS): DrainStops {
  const idle = new Promise<void>((resolve) => (becomeIdle = resolve));
  const runner: Pick<AgentRunner, 'slotsWhere' | 'stopWhere' | 'whenIdle'> = {
    slotsWhere: (matches) => slots.filter(matches),
    stopWhere: (matches, cause: StopCause) => {
      const hit = slots.filter(matches);
      for (const slot of hit) {
        slot.stop(cause, FLEET_MS);
        const { graceMs } = cause;
        stops.push({ agentId: slot.agentId, atMs: Math.round(performance.now() - begunAt), graceMs });
      }
      return hit.length;
    },
    whenIdle: async () => idle,
  };
  return new DrainStops(runner, { patienceMs, graceMs: FLEET_MS, onEarly: () => undefined });
}

/** The whole drain, in which no agent ends. Early stops alone: what is left is not stopped at its end. */
async function drained(drains: DrainStops, which: 'all' | 'early' = 'all'): Promise<void> {
  const ended = drains.wait().then((isIdle) => {
    if (which === 'all') drains.stopRest();
    return isIdle;
  });
  await jest.advanceTimersByTimeAsync(PATIENCE_MS + 10);
  expect(await ended).toBe(false);
}

describe('R43 R46 the grace of an agent in a drain', () => {
  it.each([
    ['the fleet’s where neither node nor execution sets one', undefined, 30_000, 2_000],
    ['its own where that is shorter', 500, 30_000, 500],
    ['its own where that is longer, so its signal comes earlier', 10_000, 22_000, 10_000],
    ['what the drain has where its own is longer than the drain', 600_000, 0, 32_000],
  ])('is %s', async (_what, own, atMs, graceMs) => {
    const slot = agent('a', own);
    const drains = drain();
    const isEarly = atMs < PATIENCE_MS;
    await drained(drains, isEarly ? 'early' : 'all');
    expect(drains.early.has(slot)).toBe(isEarly);
    expect(stops).toEqual([{ agentId: 'a', atMs, graceMs }]);
    // In every case the grace ends with the drain, or before.
    expect(atMs + graceMs).toBeLessThanOrEqual(PATIENCE_MS + FLEET_MS);
  });

  it('counts for an agent whose claim was granted after the drain had begun', async () => {
    const drains = drain();
    setTimeout(() => agent('late', 10_000), 500);
    await drained(drains, 'early');
    expect(stops).toEqual([{ agentId: 'late', atMs: 22_000, graceMs: 10_000 }]);
  });

  it('is the fleet’s at most where the drain has no patience', async () => {
    agent('a', 10_000);
    await drained(drain(0));
    expect(stops).toMatchObject([{ agentId: 'a', graceMs: 2_000 }]);
  });

  it('of an order under way ends with the drain’s, and the drain sends no signal before', async () => {
    const slot = agent('a', 10_000);
    slot.stop({ reason: 'killswitch', mode: 'graceful', by: 'me', endsAs: 'killed', graceMs: 600_000 }, 0);
    await drained(drain());
    expect(stops).toEqual([{ agentId: 'a', atMs: 30_000, graceMs: 2_000 }]);
  });

  it('is given to nobody where every agent ends by itself', async () => {
    agent('a');
    const drains = drain();
    const idle = drains.wait();
    await jest.advanceTimersByTimeAsync(5_000);
    becomeIdle();
    expect(await idle).toBe(true);
    expect(stops).toEqual([]);
  });
});
