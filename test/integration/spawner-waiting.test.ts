import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gradeOf } from '#libs/contracts';
import type { AgentProcess, AssignRequest, WaitingProcess } from '#libs/spawner';
import {
  eventually,
  expectedModes,
  FIXTURES,
  isAlive,
  procEntry,
  sharedHost,
  TestHost,
} from '../support/proc';
import { NOISE_MS } from '../support/wait';

/**
 * Processes that are started ahead of their attempts (ADR 0023): contained like agents from the first instruction on, and no
 * agents before they have an attempt.
 */
describe.each(expectedModes())('a process that waits for its attempt, containment $name', (mode) => {
  const isHeld = mode.native === 'auto' && mode.containment !== 'marks';
  const shared = sharedHost(mode);
  let test: TestHost;
  let said: { out: string[]; progress: unknown[]; bad: string[] };
  let agents = 0;
  beforeEach(() => {
    test = shared.current;
    said = { out: [], progress: [], bad: [] };
  });

  const recordOf = (n: number): string => join(test.dataDir, `orphan-${n}`);
  const orphan = (): number => Number(readFileSync(recordOf(agents), 'utf8'));

  async function waiting(more: Record<string, string> = {}): Promise<WaitingProcess> {
    agents += 1;
    const process = await test.host.startWaiting({
      command: [join(FIXTURES, 'waits.sh')],
      env: { TEST_TAG: test.tag, RECORD: recordOf(agents), ...(isHeld ? { STRIPPED: '1' } : {}), ...more },
    });
    await process.ready;
    return process;
  }

  const assignment = (more: Partial<AssignRequest> = {}): AssignRequest => ({
    agentId: `agt_${agents}`,
    args: [],
    env: {},
    stdin: 'tea\n',
    graceMs: 100,
    onOutput: ({ bytes }) => said.out.push(bytes.toString()),
    onMessage: (message) => message.type === 'progress' && said.progress.push(message.value),
    onBadLine: (line) => said.bad.push(line),
    ...more,
  });
  const given = async (process: WaitingProcess, more: Partial<AssignRequest> = {}): Promise<AgentProcess> => {
    const agent = test.host.assign(process, assignment(more));
    if (agent === undefined) throw new Error('it did not wait any more');
    return agent;
  };

  it('is no agent, becomes one as it is, and has its output from its beginning', async () => {
    const process = await waiting();
    expect(test.host.agents()).toEqual([]);
    const agent = await given(process);
    expect(test.host.agents()).toEqual([agent]);
    expect(agent).toMatchObject({ agentId: `agt_${agents}`, identity: process.identity });
    await eventually('its report', () => said.progress.length > 0, NOISE_MS);
    await eventually('its output', () => said.out.length === 2, NOISE_MS);
    expect(said).toEqual({ out: ['early', 'given tea'], progress: ['begun'], bad: [] });
    expect(test.host.assign(process, assignment({ agentId: 'agt_other' }))).toBeUndefined();
    await agent.stop({ mode: 'immediate', graceMs: 0 });
  });

  it('R12 is ended as an agent with all that it started before it was one, with the same proof', async () => {
    const agent = await given(await waiting());
    await eventually('its report', () => said.progress.length > 0, NOISE_MS);
    const { report } = await agent.stop({ mode: 'graceful', graceMs: 100 });
    expect(report).toMatchObject({ proved: true, escalated: true, survivors: [] });
    const kinds = report.evidence.map(({ kind }) => kind);
    expect(kinds).toContain('exit');
    expect(kinds).toContain(isHeld ? 'descent-empty' : 'sweep-empty');
    if (mode.containment === 'cgroup') expect(kinds).toContain('cgroup-empty');
    expect(gradeOf(report)).toBe(isHeld ? 'kernel' : 'marks');
    expect(isAlive(orphan())).toBe(false);
    expect(test.alive()).toEqual([]);
    expect(test.host.agents()).toEqual([]);
  });

  it('R8 a stop that comes with the assignment kills it, whether it has read it or not', async () => {
    const waits = await waiting();
    // It gets its attempt, and reads nothing of it.
    process.kill(waits.identity.pid, 'SIGSTOP');
    const agent = await given(waits);
    const { report } = await agent.stop({ mode: 'immediate', graceMs: 0 });
    expect(report).toMatchObject({ proved: true, survivors: [] });
    expect(said.progress).toEqual([]);
    expect([isAlive(waits.identity.pid), isAlive(orphan())]).toEqual([false, false]);
  });

  it('R8 R16 an attempt that may not start any more is not given to it, nor one that was aborted; it waits on', async () => {
    const waits = await waiting();
    expect(() => test.host.assign(waits, assignment({ startWithin: () => 0 }))).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ reason: 'TOO_LATE' }) }),
    );
    expect(() => test.host.assign(waits, assignment({ signal: AbortSignal.abort() }))).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ reason: 'ABORTED' }) }),
    );
    expect(test.host.agents()).toEqual([]);
    const agent = await given(waits);
    await eventually('its report', () => said.progress.length > 0, NOISE_MS);
    await agent.stop({ mode: 'immediate', graceMs: 0 });
  });

  it('that ends before it has begun on its attempt has not run it, whatever its exit code is', async () => {
    const agent = await given(await waiting({ LEAVES: '1' }));
    expect(await agent.ended).toMatchObject({
      exitCode: 0,
      startError: expect.stringContaining('ended before the attempt began'),
    });
  });

  it('R16 an abort after the assignment ends it', async () => {
    const aborting = new AbortController();
    const agent = await given(await waiting(), { signal: aborting.signal });
    aborting.abort();
    expect((await agent.ended).report.proved).toBe(true);
    expect(isAlive(orphan())).toBe(false);
  });

  it('R21 a process that has just died is not given an attempt, before its end was reported', async () => {
    const waits = await waiting();
    const { pid, startTime } = waits.identity;
    process.kill(pid, 'SIGKILL');
    // No end can be reported in this turn of the event loop.
    for (const until = performance.now() + NOISE_MS; performance.now() < until;)
      if (procEntry(pid)?.state === 'Z' || procEntry(pid)?.startTime !== startTime) break;
    expect(test.host.assign(waits, assignment())).toBeUndefined();
    await waits.ended;
    expect(isAlive(orphan())).toBe(false);
  });

  it('is ended with its tree when it is not needed, and may not be given an attempt from then on', async () => {
    const waits = await waiting();
    const ended = waits.end();
    expect(test.host.assign(waits, assignment())).toBeUndefined();
    await ended;
    expect([isAlive(waits.identity.pid), isAlive(orphan())]).toEqual([false, false]);
    expect(test.alive()).toEqual([]);
  });

  it('R54 is ended with its host, and no process of it is left', async () => {
    const own = await TestHost.start(mode);
    const waits = await own.host.startWaiting({
      command: [join(FIXTURES, 'waits.sh')],
      env: { TEST_TAG: own.tag, RECORD: join(own.dataDir, 'orphan') },
    });
    await waits.ready;
    await own.end();
    expect(isAlive(waits.identity.pid)).toBe(false);
  });
});
