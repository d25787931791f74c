import { existsSync } from 'node:fs';
import { AGENT_UIDS, noOwnUsers } from '../support/own-user';
import { expectedContainments } from '../support/proc';
import { fleetPerTest } from '../support/own-fleet';

const { begin, fleet, it } = fleetPerTest();
const isRoot = process.getuid?.() === 0;
const GRACE = { BELAY_GRACE_MS: '200' };

/** The names of the attacks by outcome. */
async function drill(): Promise<Record<string, string[]>> {
  const report = await fleet.client.drill(undefined, { hostile: true });
  const [item] = report.items;
  const by: Record<string, string[]> = { refused: [], named: [], broken: [], absent: [] };
  for (const { name, outcome, detail } of item?.attacks ?? [])
    by[outcome]?.push(outcome === 'broken' ? `${name}: ${detail ?? ''}` : name);
  if (item?.detail !== undefined) by['detail'] = [item.detail];
  expect([report.passed, by['broken'], item?.detail]).toEqual([true, [], undefined]);
  expect(item?.canaries).toMatchObject([{ name: 'hostile', outcome: 'killed' }]);
  expect((await fleet.client.drills()).items).toMatchObject([
    { hostile: { passed: true, orderId: item?.orderId } },
  ]);
  expect((await fleet.client.drills()).items[0]).not.toHaveProperty('last');
  expect((await fleet.client.audit()).items.filter(({ act }) => act === 'drill.passed')).toHaveLength(1);
  return by;
}

it.each(expectedContainments())(
  'R55 a hostile drill names the rights of an agent of the same user, and no more, containment %s',
  async (containment) => {
    await begin({ workers: 1, env: { ...GRACE, BELAY_CONTAINMENT: containment } });
    const { refused = [], named = [] } = await drill();
    expect(named).toEqual(
      expect.arrayContaining(['list-data-dir', 'write-data-dir', 'signal', 'connect-break-glass']),
    );
    if (!isRoot && containment !== 'marks')
      expect(refused).toEqual(
        expect.arrayContaining(['read-environment', 'read-memory', 'list-descriptors']),
      );
    const ways = [
      'own-session',
      'own-group',
      'holds-pipe',
      'double-fork',
      'disowned',
      'deaf',
      'stopped',
      'cleared',
      'fork-chain',
    ];
    const seen = containment === 'marks' ? ways : [...ways, 'unmarked'];
    expect(refused).toEqual(expect.arrayContaining(seen.map((way) => `leave:${way}`)));
    if (containment === 'marks') expect(named).toContain('leave:unmarked');
    if (containment === 'cgroup') expect(refused).toContain('leave:moved-cgroup');
    if (existsSync('/usr/bin/perl')) expect(refused).toContain('leave:subreaper');
  },
);

const noUsers = noOwnUsers();
if (noUsers !== undefined)
  process.stdout.write(`No hostile drill with users of their own here: ${noUsers}.\n`);
for (const containment of noUsers === undefined ? expectedContainments() : [])
  it(`R55 a hostile drill is refused everything where agents have users of their own, containment ${containment}`, async () => {
    const env = {
      ...GRACE,
      BELAY_CONTAINMENT: containment,
      BELAY_ISOLATION: 'user',
      BELAY_AGENT_UIDS: `${AGENT_UIDS.first}-${AGENT_UIDS.last}`,
      BELAY_WORK_DIR: '/',
    };
    await begin({ workers: 1, env });
    const { refused = [], named } = await drill();
    expect(named).toEqual([]);
    expect(refused).toEqual(
      expect.arrayContaining([
        'read-secrets',
        'list-data-dir',
        'write-data-dir',
        'read-environment',
        'read-memory',
        'list-descriptors',
        'signal',
        'connect-break-glass',
        'release-latch',
        'leave:cleared',
        'leave:unmarked',
        'leave:fork-chain',
      ]),
    );
  });
