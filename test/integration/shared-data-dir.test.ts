import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, processesWith, startFleet, type Fleet, type Member } from '../support/fleet';
import { expectedContainments, procEntry } from '../support/proc';

/*
 * Two containers with one data directory: each worker is the first process of a PID namespace of its own, with a /proc
 * of its own. No privilege is needed where users may make namespaces.
 */
const [UNSHARE, ...FLAGS] = [
  'unshare',
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
  '--pid',
  '--fork',
  '--mount-proc',
];
const canUnshare = spawnSync(UNSHARE, [...FLAGS, 'true']).status === 0;
if (!canUnshare)
  process.stderr.write(
    '  skipped: no PID namespace can be made here, so two workers cannot be hidden from each other\n',
  );
const test = canUnshare ? it.each(expectedContainments()) : it.skip.each(expectedContainments());

const ENV = {
  BELAY_LEASE_TTL_MS: '4000',
  BELAY_HEARTBEAT_MS: '200',
  BELAY_GRACE_MS: '200',
  BELAY_PROOF_LIMIT_MS: '2000',
};

let fleet: Fleet;
/** The workers themselves: unshare(1), their parent, passes no signal on. */
const inside: number[] = [];
afterEach(async () => {
  for (const pid of inside.splice(0))
    if (procEntry(pid)?.command.startsWith('node')) process.kill(pid, 'SIGKILL');
  await fleet.stop();
});

const childrenOf = (parent: number): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && procEntry(pid)?.parent === parent);

interface Contained {
  readonly member: Member;
  readonly pid: number;
}

async function addContained(): Promise<Contained> {
  const member = await fleet.addWorker({}, [UNSHARE, ...FLAGS]);
  const [pid] = childrenOf(member.process.pid ?? 0);
  if (pid === undefined) throw new Error('unshare has no child');
  inside.push(pid);
  return { member, pid };
}

test('R51 R17 a worker is not proved dead by one that cannot see it: two PID namespaces share a data directory, %s', async (containment) => {
  fleet = await startFleet({ workers: 0, env: { ...ENV, BELAY_CONTAINMENT: containment } });
  const first = await addContained();
  const { execution } = await fleet.client.createExecution({
    name: 'shared',
    onFailure: 'continue',
    nodes: [
      { id: 'a', run: { command: ['echo ready; exec sleep 600'], shell: true }, maxAttempts: 1 },
      // Keeps the execution from ending with the attempt.
      { id: 'later', run: { command: ['true'] }, delayMs: 600_000 },
    ],
  });
  const agent = await eventually(async () => {
    const { items } = await fleet.client.agents({ executionId: execution.id, state: ['running'] });
    return items[0];
  }, 'its agent running');

  // It looks for dead workers before it reports that it is ready.
  const second = await addContained();
  const hosts = join(fleet.dir, 'hosts');
  const recorded = (id: string): boolean => existsSync(join(hosts, `${id}.json`));
  expect(await fleet.life.workers.proof(first.member.id)).toBeUndefined();
  expect([first, second].map(({ member }) => recorded(member.id))).toEqual([true, true]);

  // Its lease runs out while its agent lives: worker and guardian are stopped, so that neither fences.
  const guardian = childrenOf(first.pid).find((pid) => procEntry(pid)?.command.startsWith('node'));
  if (guardian === undefined) throw new Error('no guardian');
  process.kill(guardian, 'SIGSTOP');
  process.kill(first.pid, 'SIGSTOP');
  await eventually(
    async () => (await fleet.client.agent(agent.id)).state === 'failed' && true,
    'the attempt given up',
    30_000,
  );
  expect(await fleet.client.agent(agent.id)).toMatchObject({ reason: 'worker_lost' });
  expect((await fleet.client.agent(agent.id)).report).toBeUndefined();
  const { receipt } = await fleet.client.stop(execution.id);
  expect(receipt).toMatchObject({ complete: false, totals: { unconfirmed: 1, killed: 0 } });
  expect(processesWith(`BELAY_AGENT_ID=${agent.id}\0`)).toHaveLength(1);
  expect(recorded(first.member.id)).toBe(true);
});
