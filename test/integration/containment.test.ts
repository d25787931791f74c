import { startFleet, eventually, type Fleet } from '../support/fleet';
import { nativeState } from '#libs/spawner';
import { descendantsOf, isAlive, namespaceModes } from '../support/proc';

const state = nativeState();
if (!state.available) process.stdout.write(`Containment "descent" is not tested here: ${state.reason}.\n`);
const describeDescent = state.available ? describe : describe.skip;

/** Leaves a deaf orphan without any sign of Belay's, and prints its pid. */
const HIDES = `pid=$(env -i setsid /bin/sh -c '
     { ulimit -S -w 1 || ulimit -S -x 1; } 2>/dev/null
     (trap "" TERM; exec sleep 600 >/dev/null 2>&1 3>&-) & echo $!' </dev/null 2>/dev/null 3>&-)
   echo "orphan $pid"; exec sleep 600`;

describeDescent('a fleet that holds its trees by descent', () => {
  let fleet: Fleet;
  beforeAll(async () => {
    fleet = await startFleet({ workers: 1, env: { BELAY_CONTAINMENT: 'descent', BELAY_GRACE_MS: '300' } });
  });
  afterAll(async () => fleet.stop());

  it('R51 R55 the worker’s record, armed and the receipt say so, and an escapee is told by an event', async () => {
    const [worker] = (await fleet.client.workers()).items;
    expect(worker?.containment).toBe('descent');
    const [answered] = (await fleet.client.armed()).workers;
    expect(worker?.isolation).toBe('same-user');
    expect(answered).toMatchObject({ armed: true, containment: 'descent', isolation: 'same-user' });
    const { execution } = await fleet.client.createExecution({
      name: 'hides',
      nodes: [{ id: 'a', run: { command: [HIDES], shell: true } }],
    });
    const orphan = await eventually(async () => {
      const { items } = await fleet.client.agents({ executionId: execution.id });
      const lines = items[0] === undefined ? [] : (await fleet.client.logs(items[0].id)).lines;
      return Number(lines.find(({ line }) => line.startsWith('orphan '))?.line.split(' ')[1]) || undefined;
    }, 'the orphan');
    await eventually(async () => !isAlive(orphan), 'its end');
    const { redis, keys } = fleet.life.valkey;
    const told = await eventually(async () => {
      const rows = await redis.xrange(keys.shard(keys.control, 'events'), '-', '+');
      const events = rows
        .map(([, fields]) => fields.join(' '))
        .filter((text) => text.includes('agent.escapee'));
      return events.length > 0 && events;
    }, 'the event');
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`"pid":${orphan}`);
    expect(told[0]).toContain(worker?.id);
    const answer = await fleet.client.stop(execution.id);
    const [target] = answer.receipt?.targets ?? [];
    expect(target).toMatchObject({
      outcome: 'killed',
      report: { containment: 'descent', proved: true },
      grade: 'kernel',
    });
    expect(answer.receipt?.grade).toBe('kernel');
    expect(target?.report?.evidence.map(({ kind }) => kind)).toContain('descent-empty');
  });
});

const itNamespace = namespaceModes().length > 0 ? it : it.skip;
itNamespace(
  'R51 R55 without libc a PID namespace for each agent proves by the kernel; record, armed and receipt say so',
  async () => {
    const env = { BELAY_CONTAINMENT: 'namespace', BELAY_NATIVE: 'off', BELAY_PROOF: 'kernel' };
    const fleet = await startFleet({ workers: 1, env });
    try {
      const [worker] = (await fleet.client.workers()).items;
      expect(worker).toMatchObject({ containment: 'namespace', grade: 'kernel' });
      const [answered] = (await fleet.client.armed()).workers;
      expect(answered).toMatchObject({ armed: true, containment: 'namespace' });
      const { execution } = await fleet.client.createExecution({
        name: 'hides',
        nodes: [{ id: 'a', run: { command: [HIDES], shell: true } }],
      });
      const agent = await eventually(async () => {
        const { items } = await fleet.client.agents({ executionId: execution.id });
        const lines = items[0] === undefined ? [] : (await fleet.client.logs(items[0].id)).lines;
        return lines.some(({ line }) => line.startsWith('orphan ')) && items[0];
      }, 'the orphan');
      expect(agent.containment).toBe('namespace');
      const below = descendantsOf(agent.pid ?? 0);
      // Init, the command and the orphan.
      expect(below).toHaveLength(3);
      const answer = await fleet.client.stop(execution.id);
      expect(answer.receipt).toMatchObject({ complete: true, grade: 'kernel' });
      const [target] = answer.receipt?.targets ?? [];
      expect(target).toMatchObject({ outcome: 'killed', report: { containment: 'namespace', proved: true } });
      expect(target?.report?.evidence.map(({ kind }) => kind)).toContain('namespace-ended');
      expect(below.filter(isAlive)).toEqual([]);
    } finally {
      await fleet.stop();
    }
  },
);

it('R51 with BELAY_PROOF=kernel a kill that only marks prove stays unconfirmed, and its execution is not called stopped', async () => {
  const env = {
    BELAY_CONTAINMENT: 'marks',
    BELAY_PROOF: 'kernel',
    BELAY_PROOF_LIMIT_MS: '1s',
    BELAY_GRACE_MS: '300',
  };
  const fleet = await startFleet({ workers: 1, env });
  try {
    const { execution } = await fleet.client.createExecution({
      name: 'by-marks',
      nodes: [{ id: 'a', run: { command: ['sleep', '600'] } }],
    });
    await eventually(async () => {
      const { items } = await fleet.client.agents({ executionId: execution.id });
      return items[0]?.state === 'running';
    }, 'the agent');
    const receipt = await fleet.client.kill({ scope: { type: 'execution', executionId: execution.id } });
    expect(receipt).toMatchObject({ complete: false, totals: { unconfirmed: 1 } });
    expect(receipt.targets[0]).toMatchObject({
      outcome: 'unconfirmed',
      grade: 'marks',
      report: { proved: true },
    });
    expect(receipt.targets[0]?.detail).toContain('BELAY_PROOF');
    const ended = await fleet.client.execution(execution.id);
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'UNCONFIRMED' } });
    expect(ended.error?.message).toContain('BELAY_PROOF');
  } finally {
    await fleet.stop();
  }
});
