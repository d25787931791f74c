import { writeFileSync } from 'node:fs';
import { ended as executionEnded } from '../support/executions';
import { eventually, processesWith, type Fleet } from '../support/fleet';
import { useFleetAndFolder } from '../support/fleet-folder';

/** Short, so that a lost worker is declared lost soon; the fencing sum is still met. */
const LEASE = {
  BELAY_LEASE_TTL_MS: '3000',
  BELAY_HEARTBEAT_MS: '200',
  BELAY_GRACE_MS: '300',
};

let fleet: Fleet;
const { file, lines } = useFleetAndFolder(LEASE, (started) => (fleet = started));

const sh = (script: string) => ({ command: ['/bin/sh', '-c', script] });

async function submit(nodes: object[]): Promise<string> {
  return (await fleet.client.createExecution({ name: 'retried', nodes })).execution.id;
}

const ended = async (id: string) => executionEnded(fleet.client, id);

it('R40 an execution that failed for good is listed with its error, and goes on by hand from where it was', async () => {
  const id = await submit([
    { id: 'a', run: sh(`echo a >>${file('ran')}`) },
    {
      id: 'b',
      dependsOn: ['a'],
      maxAttempts: 2,
      backoff: { type: 'fixed', delayMs: 0 },
      run: sh(`echo b$BELAY_ATTEMPT >>${file('ran')}; test -e ${file('mended')}`),
    },
    { id: 'c', dependsOn: ['b'], run: sh(`echo c >>${file('ran')}`) },
  ]);
  expect(await ended(id)).toMatchObject({ state: 'failed', error: { code: 'EXIT', nodeId: 'b' } });
  const { items } = await fleet.client.nodes(id, { state: ['failed'] });
  expect(items).toMatchObject([{ id: 'b', attempt: 2, error: { code: 'EXIT' } }]);

  writeFileSync(file('mended'), '');
  expect(await fleet.client.retryExecution(id)).toMatchObject({ state: 'running', epoch: 2 });
  await expect(fleet.client.retryExecution(id)).rejects.toMatchObject({ code: 'INVALID_TRANSITION' });
  expect(await ended(id)).toMatchObject({ state: 'completed', nodes: { completed: 3 } });
  // Completed nodes did not run again.
  expect(lines('ran')).toEqual(['a', 'b1', 'b2', 'b3', 'c']);
  await expect(fleet.client.retryExecution(id, { force: 'yes' } as never)).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
  });
});

it('R40 a stopped one goes on, and can be stopped again', async () => {
  const id = await submit([
    { id: 'a', run: sh('true') },
    { id: 'b', dependsOn: ['a'], run: sh('sleep 600') },
  ]);
  for (const round of [1, 2]) {
    // By the record: for a receipt, a process that has not become its command yet never started.
    const runs = async () =>
      (await fleet.life.agents.list({ executionId: id, states: ['running'] })).length === 1;
    const sleeps = async () => processesWith(id).some(({ command }) => command.includes('sleep 600'));
    await eventually(async () => (await runs()) && sleeps(), `the process of round ${round}`);
    const { status, receipt } = await fleet.client.stop(id, { mode: 'immediate' });
    expect(status).toBe('stopped');
    expect(receipt).toMatchObject({ complete: true, totals: { killed: 1, total: 1 } });
    expect(processesWith(id)).toEqual([]);
    await fleet.client.retryExecution(id);
  }
  await fleet.client.stop(id, { mode: 'immediate' });
});

it('R28 R29 the checkpoint and steps of a lost attempt are handed on; a node without recovery waits for a person', async () => {
  const worker = await fleet.addWorker({ BELAY_POOLS: 'frail' });
  const script = (name: string): string =>
    `cat >>${file(name)}; echo '{"type":"event","name":"paid","data":[]}' >&3; ` +
    `echo '{"type":"checkpoint","value":{"row":7}}' >&3; sleep 600`;
  const node = (name: string, over: object) => ({
    id: name,
    pool: 'frail',
    backoff: { type: 'fixed', delayMs: 0 },
    run: sh(script(name)),
    ...over,
  });
  const recovered = await submit([node('auto', {})]);
  const refused = await submit([node('byhand', { recovery: { auto: false } })]);
  const late = await submit([node('late', { recovery: { withinMs: 1 } })]);
  await eventually(async () => {
    const agents = await Promise.all(
      [recovered, refused, late].map(async (executionId) => fleet.client.agents({ executionId })),
    );
    return agents.every(({ items }) => items[0]?.checkpointOf !== undefined);
  }, 'the checkpoints');
  worker.process.kill('SIGKILL');
  await worker.exited;
  for (const [id, code] of [
    [refused, 'RECOVERY_OFF'],
    [late, 'RECOVERY_TOO_LATE'],
  ] as const)
    expect(await ended(id)).toMatchObject({ state: 'failed', error: { code } });
  expect(lines('byhand')).toHaveLength(1);

  const next = await fleet.addWorker({ BELAY_POOLS: 'frail' });
  await eventually(async () => lines('auto').length === 2, 'the recovery');
  expect(lines('auto').map((line) => JSON.parse(line) as object)).toMatchObject([
    { attempt: 1, isRecovery: false, lastCheckpoint: null, earlierEvents: [] },
    {
      attempt: 2,
      isRecovery: true,
      lastCheckpoint: { row: 7 },
      earlierEvents: [{ attempt: 1, name: 'paid', data: [], at: expect.any(Number) as number }],
    },
  ]);
  // The guardian's proof must be stored first: until then a retry could run it twice.
  await eventually(
    async () => (await fleet.client.retryExecution(refused).catch(() => undefined)) !== undefined,
    'the retry by hand',
  );
  await eventually(async () => lines('byhand').length === 2, 'the second attempt');
  expect(JSON.parse(lines('byhand')[1] ?? '')).toMatchObject({ attempt: 2, isRecovery: true });
  expect((await fleet.client.agents({ executionId: recovered, state: ['running'] })).items).toMatchObject([
    { owner: next.id },
  ]);
  for (const id of [recovered, refused]) await fleet.client.stop(id, { mode: 'immediate' });
});
