import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { gradeOf, type BelayError } from '#libs/contracts';
import { nativeState, type Escapee, type ProcessHostOptions } from '#libs/spawner';
import { eventually, isAlive, procEntry, TestHost, type TestAgent } from '../support/proc';

const state = nativeState();
if (!state.available) process.stdout.write(`Containment "descent" is not tested here: ${state.reason}.\n`);
const describeDescent = state.available ? describe : describe.skip;
const mode = { containment: 'descent', native: 'auto' } as const;
const immediate = { mode: 'immediate', graceMs: 0 } as const;

/**
 * Leaves a deaf orphan without any sign of Belay's: no environment, a session of its own, no pipe, no mark. `wearing` is the
 * mark that it sets instead. Prints the orphan's pid.
 */
const leaveOrphan = (wearing = '1'): string[] => [
  '/bin/sh',
  '-c',
  `pid=$(env -i setsid /bin/sh -c '
     { ulimit -S -w ${wearing} || ulimit -S -x ${wearing}; } 2>/dev/null
     (trap "" TERM; exec sleep 1000 >/dev/null 2>&1 3>&-) & echo $!' </dev/null 2>/dev/null 3>&-)
   echo "orphan $pid"; echo ready; exec sleep 1000`,
];

describeDescent('containment by descent', () => {
  let test: TestHost;
  let told: Escapee[];
  const begin = async (options: Partial<ProcessHostOptions> = {}): Promise<void> => {
    told = [];
    test = await TestHost.start(mode, { onEscapee: (escapee) => told.push(escapee), ...options });
  };
  afterEach(async () => test.end());

  const orphanOf = async ({ line }: TestAgent): Promise<number> =>
    Number((await line((text) => text.startsWith('orphan '))).split(' ')[1]);
  const zombies = (): number[] =>
    readdirSync('/proc')
      .map(Number)
      .filter((pid) => procEntry(pid)?.parent === process.pid && procEntry(pid)?.state === 'Z');

  it('R51 ends an orphan that bears no sign of its agent on sight, and reports it once', async () => {
    await begin();
    const started = await test.run(leaveOrphan());
    const orphan = await orphanOf(started);
    await eventually('the orphan ended', () => !isAlive(orphan), 5_000);
    await eventually('it was told', () => told.length > 0, 5_000);
    expect(started.agent.identity.pid).not.toBe(orphan);
    expect(isAlive(started.agent.identity.pid)).toBe(true);
    const { report } = await started.agent.stop(immediate);
    expect(report.proved).toBe(true);
    expect(told).toEqual([
      { pid: orphan, startTime: expect.any(String), command: expect.any(String), killed: true },
    ]);
  });

  it('R51 a stop finds it without an earlier look, and proves by the kernel that all are dead', async () => {
    await begin({ watchMs: 60_000 });
    const started = await test.run(leaveOrphan());
    const orphan = await orphanOf(started);
    expect(isAlive(orphan)).toBe(true);
    const { report } = await started.agent.stop(immediate);
    expect(report).toMatchObject({ containment: 'descent', proved: true, survivors: [] });
    expect(report.evidence.map(({ kind }) => kind)).toContain('descent-empty');
    expect(gradeOf(report)).toBe('kernel');
    expect(isAlive(orphan)).toBe(false);
  });

  it('R51 where the process is shared, an agent’s orphan is ended all the same: it is the guardian’s, and never the host’s', async () => {
    await begin({ ownsProcess: false, watchMs: 60_000 });
    const started = await test.run(leaveOrphan());
    const orphan = await orphanOf(started);
    expect(procEntry(orphan)?.parent).toBe(test.host.guardianPid);
    const { report } = await started.agent.stop(immediate);
    expect(report.proved).toBe(true);
    expect(gradeOf(report)).toBe('kernel');
    expect(isAlive(orphan)).toBe(false);
    expect(told).toMatchObject([{ pid: orphan, killed: true }]);
  });

  /** Leaves an orphan of this very process, as a host program may. */
  const orphanOfHost = async (): Promise<number> => {
    const child = spawn('/bin/sh', ['-c', 'setsid sleep 1000 >/dev/null & echo $!'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let said = '';
    child.stdout.on('data', (text: Buffer) => (said += text.toString()));
    await new Promise((resolve) => child.once('close', resolve));
    return Number(said);
  };

  it('R51 where the process is shared, an orphan of the host’s is left alone and no proof is given while it lives', async () => {
    await begin({ ownsProcess: false, killWaitMs: 200 });
    const started = await test.ready('deaf.sh');
    const orphan = await orphanOfHost();
    const { report } = await started.agent.stop(immediate);
    expect(report).toMatchObject({ proved: false });
    expect(isAlive(orphan)).toBe(true);
    expect(told).toMatchObject([{ pid: orphan, killed: false }]);
    process.kill(orphan, 'SIGKILL');
    const confirmed = await started.agent.confirmed;
    expect(confirmed.proved).toBe(true);
    expect(gradeOf(confirmed)).toBe('kernel');
  });

  it('R51 an orphan that is older than an agent is not its, and is in the way of no proof', async () => {
    await begin({ ownsProcess: false, killWaitMs: 200 });
    const one = await test.ready('deaf.sh');
    const orphan = await orphanOfHost();
    // Start times count in ticks of 10 ms.
    const bornAt = Number(procEntry(orphan)?.startTime);
    await eventually(
      'a later tick',
      () => Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 100 > bornAt + 1,
      5_000,
    );
    const other = await test.ready('deaf.sh');
    const { report } = await other.agent.stop(immediate);
    expect(report.proved).toBe(true);
    expect(gradeOf(report)).toBe('kernel');
    expect((await one.agent.stop(immediate)).report.proved).toBe(false);
    process.kill(orphan, 'SIGKILL');
    expect((await one.agent.confirmed).proved).toBe(true);
  });

  describe('when the guardian, which starts the agents, is killed', () => {
    it('its agents live on, each with its exit code, and the worker finds their hidden processes', async () => {
      await begin({ watchMs: 60_000 });
      const { guardianPid: guardian = 0 } = test.host;
      const hiding = await test.run(leaveOrphan());
      const orphan = await orphanOf(hiding);
      const polite = await test.ready(['/bin/sh', '-c', 'trap "exit 7" TERM; echo ready; sleep 1000 & wait']);
      expect(procEntry(polite.agent.identity.pid)?.parent).toBe(guardian);
      process.kill(guardian, 'SIGKILL');
      await eventually('adoption', () => procEntry(orphan)?.parent === process.pid, 5_000);
      await eventually('another guardian', () => test.host.guardianPid !== guardian, 10_000);
      const ended = await polite.agent.stop({ mode: 'graceful', graceMs: 5_000 });
      expect(ended).toMatchObject({ exitCode: 7, report: { proved: true } });
      const { report } = await hiding.agent.stop(immediate);
      expect(gradeOf(report)).toBe('kernel');
      expect(isAlive(orphan)).toBe(false);
      // And the next one starts agents again.
      const next = await test.ready('polite.sh');
      expect(procEntry(next.agent.identity.pid)?.parent).toBe(test.host.guardianPid);
      await next.agent.stop(immediate);
    });

    it('a start that is requested meanwhile is done once, by the guardian after it', async () => {
      await begin();
      const { guardianPid: guardian = 0 } = test.host;
      process.kill(guardian, 'SIGSTOP');
      // A stopped guardian does not answer; after 3 s it is replaced.
      const { agent } = await test.ready('polite.sh');
      expect(test.host.guardianRestarts).toBe(1);
      expect(test.host.guardianPid).not.toBe(guardian);
      expect(procEntry(agent.identity.pid)?.parent).toBe(test.host.guardianPid);
      expect(test.alive().filter(({ parent }) => parent === test.host.guardianPid)).toHaveLength(1);
      await agent.stop(immediate);
      expect(test.alive()).toEqual([]);
    });
  });

  it('R15 starts of any size, refused or not, cost no other start its guardian', async () => {
    await begin();
    const { guardianPid: guardian } = test.host;
    const variables = (count: number, value: string) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`V${i}`, value]));
    const refused = variables(79, '中'.repeat(33_333));
    // Six times as long in JSON, and every character of it two bytes in memory.
    const taken = variables(30, `${'\u0001'.repeat(50_000)}中`);
    const outcomes = await Promise.all(
      Array.from({ length: 36 }, async (_, i) =>
        test.run(['true'], { env: [refused, taken, {}][i % 3] ?? {} }).then(
          async ({ agent }) => (await agent.ended).exitCode,
          (error: BelayError) => error.details['reason'],
        ),
      ),
    );
    const fits = spawnSync('true', { env: taken }).error === undefined;
    expect(outcomes).toEqual(outcomes.map((_, i) => ['E2BIG', fits ? 0 : 'E2BIG', 0][i % 3]));
    expect([test.host.guardianPid, test.host.guardianRestarts]).toEqual([guardian, 0]);
  });

  it('R51 an orphan that wears the mark of another agent lowers the grade of its own agent’s proof', async () => {
    await begin({ watchMs: 60_000 });
    const victim = await test.ready('polite.sh');
    const limits = readFileSync(`/proc/${victim.agent.identity.pid}/limits`, 'latin1');
    const mark = /^Max file locks +(\d+)/m.exec(limits)?.[1] ?? '';
    const started = await test.run(leaveOrphan(mark));
    const orphan = await orphanOf(started);
    const { report } = await started.agent.stop(immediate);
    // Either it was ended, or the proof says that it rests on the processes' own claims.
    expect(isAlive(orphan) ? gradeOf(report) : 'kernel').toBe(isAlive(orphan) ? 'marks' : 'kernel');
    // And it ends with the agent to which it claims to belong.
    expect((await victim.agent.stop(immediate)).report.proved).toBe(true);
    expect(isAlive(orphan)).toBe(false);
  });

  it('reaps the orphans it adopts, and costs no other child its exit', async () => {
    await begin();
    const exits = Array.from({ length: 30 }, (_, i) => {
      const child = spawn('/bin/sh', ['-c', `sleep 0.${i % 10}; exit ${i}`], { stdio: 'ignore' });
      return new Promise((resolve) => child.once('exit', resolve));
    });
    const agents = await Promise.all(
      Array.from({ length: 5 }, async () =>
        test.run([
          '/bin/sh',
          '-c',
          'i=0; while [ $i -lt 40 ]; do (sleep 0.05 &); i=$((i+1)); done; sleep 0.3',
        ]),
      ),
    );
    const ended = await Promise.all(agents.map(async ({ agent }) => agent.ended));
    for (const { exitCode, report } of ended) {
      expect(exitCode).toBe(0);
      expect(gradeOf(report)).toBe('kernel');
    }
    expect(await Promise.all(exits)).toEqual(exits.map((_, i) => i));
    await eventually('no zombie is left', () => zombies().length === 0, 5_000);
    expect(told).toEqual([]);
  });

  it('R21 an agent that forks and ends as fast as it can leaves few of its dead, and takes no pids from others', async () => {
    await begin();
    const generations = 1_000;
    const started = await test.ready('fork-loop.sh', {
      env: { SETSID: 'setsid', LIMIT: String(generations) },
    });
    const { guardianPid: guardian = 0 } = test.host;
    const children = (): number =>
      readFileSync(`/proc/${guardian}/task/${guardian}/children`, 'latin1').split(' ').length - 1;
    let most = 0;
    const isOver = (): boolean => {
      most = Math.max(most, children());
      return most > 3 && children() <= 1;
    };
    await eventually('the three chains ended and were reaped', isOver, 60_000);
    // Three chains of that length were started, and each of their processes was the guardian's once.
    expect(most).toBeLessThan((3 * generations) / 2);
    const { report } = await started.agent.stop(immediate);
    expect(report.proved).toBe(true);
  });
});
