import { readdirSync, readlinkSync } from 'node:fs';
import { gradeOf } from '#libs/contracts';
import {
  commandBelow,
  descendantsOf,
  eventually,
  isAlive,
  namespaceModes,
  procEntry,
  TestHost,
  type TestAgent,
} from '../support/proc';

const modes = namespaceModes();
const describeNamespace = modes.length > 0 ? describe : describe.skip;
const immediate = { mode: 'immediate', graceMs: 0 } as const;
const graceful = { mode: 'graceful', graceMs: 5_000 } as const;

/** Leaves a deaf orphan without any sign of Belay's: no environment, a session of its own, no pipe, no mark. */
const ORPHAN = `env -i setsid /bin/sh -c '
  { ulimit -S -w 1 || ulimit -S -x 1; } 2>/dev/null
  (trap "" TERM; exec sleep 1000 >/dev/null 2>&1 3>&-) &' </dev/null >/dev/null 2>&1 3>&-
echo ready`;
const shell = (script: string): string[] => ['/bin/sh', '-c', script];

/** The living processes of a PID namespace, by their numbers outside. */
function inNamespace(namespace: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        return pid > 0 && readlinkSync(`/proc/${pid}/ns/pid`) === namespace && isAlive(pid);
      } catch {
        return false;
      }
    });
}

describeNamespace.each(modes)('R51 containment $name', (mode) => {
  let test: TestHost;
  beforeAll(async () => {
    test = await TestHost.start(mode);
  });
  afterEach(async () => {
    await Promise.all(test.host.agents().map(async (agent) => agent.stop(immediate)));
  });
  afterAll(async () => test.end());

  /** The namespace of the first process's children. */
  const namespaceOf = ({ agent }: TestAgent): string =>
    readlinkSync(`/proc/${agent.identity.pid}/ns/pid_for_children`);
  const run = async (script: string, graceMs = 300) =>
    (await test.run(shell(script), { graceMs })).agent.ended;

  it('says so, and its proofs are of grade kernel', () => {
    expect(test.host).toMatchObject({ containment: 'namespace', grade: 'kernel' });
  });

  it('a command whose first process was killed from outside is a leftover: it is asked, and has a grace', async () => {
    const started = await test.ready(
      shell(`trap 'echo asked; sleep 0.2; exit 0' TERM; echo ready; while :; do sleep 0.02; done`),
      { graceMs: 20_000 },
    );
    const command = commandBelow(started.agent.identity.pid);
    process.kill(started.agent.identity.pid, 'SIGKILL');
    const { signal, leftovers, report } = await started.agent.ended;
    expect({ signal, proved: report.proved, escalated: report.escalated }).toEqual({
      signal: 'SIGKILL',
      proved: true,
      escalated: false,
    });
    expect(leftovers).toBeGreaterThan(0);
    expect(report.signals).toContainEqual(expect.objectContaining({ signal: 'SIGTERM', pid: command }));
    expect(started.out).toContain('asked');
    expect(report.evidence.map(({ kind }) => kind)).toContain('namespace-ended');
  });

  it('a natural end has the exit code, and its proof names the init of the namespace', async () => {
    const { exitCode, signal, leftovers, report } = await run('exit 7');
    expect({ exitCode, signal, leftovers }).toEqual({ exitCode: 7, signal: null, leftovers: 0 });
    expect(report).toMatchObject({ containment: 'namespace', proved: true, escalated: false, signals: [] });
    expect(report.evidence.map(({ kind }) => kind)).toEqual(['exit', 'namespace-ended']);
    expect(report.evidence[1]?.detail).toMatch(/process \d+, start time \d+/);
    expect(gradeOf(report)).toBe('kernel');
    expect(test.alive()).toEqual([]);
  });

  it('a natural end by a signal has that signal', async () => {
    expect(await run('kill -USR1 $$')).toMatchObject({ exitCode: null, signal: 'SIGUSR1' });
    expect(await run('kill -KILL $$')).toMatchObject({ exitCode: null, signal: 'SIGKILL' });
  });

  it('SIGTERM reaches the command, whose own exit code counts', async () => {
    const started = await test.ready(shell(`trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done`));
    const { exitCode, report } = await started.agent.stop(graceful);
    expect(exitCode).toBe(9);
    expect(report).toMatchObject({ proved: true, escalated: false });
    expect(test.alive()).toEqual([]);
  });

  it('a command without a handler ends by SIGTERM, since it is not process 1', async () => {
    const started = await test.ready(shell('echo ready; exec sleep 1000'));
    expect(await started.agent.stop(graceful)).toMatchObject({ exitCode: null, signal: 'SIGTERM' });
  });

  it('a stop finds and ends an orphan that bears no sign of its agent', async () => {
    const started = await test.ready(shell(`${ORPHAN}; exec sleep 1000`));
    const namespace = namespaceOf(started);
    const before = inNamespace(namespace);
    // Init, the command and the orphan.
    expect(before).toHaveLength(3);
    const { report } = await started.agent.stop(immediate);
    expect(before.filter(isAlive)).toEqual([]);
    expect(inNamespace(namespace)).toEqual([]);
    expect(report).toMatchObject({ proved: true, survivors: [], escalated: true });
    expect(report.signals.map(({ to }) => to)).toContain('namespace');
    expect(gradeOf(report)).toBe('kernel');
  });

  it('a stop right after the start is proved, however far the start has come', async () => {
    const stops = Array.from({ length: 8 }, async () => {
      const { agent } = await test.run(shell('exec sleep 1000'));
      return (await agent.stop(immediate)).report;
    });
    for (const report of await Promise.all(stops))
      expect(report).toMatchObject({ proved: true, survivors: [] });
    expect(test.alive()).toEqual([]);
  });

  it('SIGTERM right after the start ends it, however far the start has come', async () => {
    const stops = Array.from({ length: 8 }, async () => {
      const { agent } = await test.run(shell('exec sleep 1000'));
      return (await agent.stop({ mode: 'graceful', graceMs: 20_000 })).report;
    });
    for (const report of await Promise.all(stops))
      expect(report).toMatchObject({ proved: true, escalated: false });
    expect(test.alive()).toEqual([]);
  });

  it('a process that outlives the command gets SIGTERM and a grace at a natural end', async () => {
    // A grace that a busy machine does not use up.
    const { leftovers, report } = await run(
      `(trap 'exit 0' TERM; echo >&3; while :; do sleep 0.02; done) </dev/null >/dev/null 2>&1 &
       until [ -e /proc/$!/fd ]; do :; done; sleep 0.1; exit 0`,
      20_000,
    );
    expect(leftovers).toBeGreaterThan(0);
    expect(report).toMatchObject({ proved: true, escalated: false });
    expect(report.signals.map(({ signal }) => signal)).toContain('SIGTERM');
  });

  it('a deaf orphan without marks that outlives the command is ended with proof', async () => {
    const { leftovers, report } = await run(`${ORPHAN}; exit 0`);
    expect(leftovers).toBeGreaterThan(0);
    expect(report).toMatchObject({ proved: true, escalated: true });
    expect(gradeOf(report)).toBe('kernel');
  });

  it('a freeze stops every process of it, and a thaw continues them', async () => {
    const started = await test.ready(
      shell('(while :; do sleep 0.01; done) & echo ready; while :; do sleep 0.01; done'),
    );
    await started.agent.freeze();
    const states = () => descendantsOf(started.agent.identity.pid).map((pid) => procEntry(pid)?.state);
    // A shell that waits for its stopped vfork child is in state D. Nobody reaps a zombie of a stopped shell.
    expect(states().filter((state) => !['T', 'D', 'Z'].includes(state ?? ''))).toEqual([]);
    expect(states()).toContain('T');
    await started.agent.thaw();
    expect(states()).not.toContain('T');
    await started.agent.freeze();
    expect((await started.agent.stop(immediate)).report.proved).toBe(true);
  });

  it('the agent sees and reaches no process of Belay', async () => {
    const guardian = test.host.guardianPid ?? 0;
    const { agent, out } = await test.run(
      shell(`for pid in ${process.pid} ${guardian}; do kill -0 $pid 2>/dev/null && echo reached $pid; done
             kill -STOP -1; kill -KILL 1; cd /proc && echo [0-9]*`),
    );
    const { exitCode } = await agent.ended;
    expect(exitCode).toBe(0);
    // Init and the shell.
    expect(out).toEqual(['1 2']);
    expect(await test.host.guardianAnswers()).toBe(true);
  });

  it('signals to its own group do not reach the process outside', async () => {
    const { exitCode, signal } = await run(`trap 'exit 5' HUP; kill -HUP 0; sleep 10`);
    expect({ exitCode, signal }).toEqual({ exitCode: 5, signal: null });
  });

  it('init holds none of the pipes of the command', async () => {
    const started = await test.ready(shell('echo ready; exec sleep 1000'));
    const first = started.agent.identity.pid;
    const command = commandBelow(first);
    const init = descendantsOf(first).find((pid) => pid !== command) ?? 0;
    // The shell that becomes init may still have copies of them, which its exec closes.
    await eventually('init executed', () => procEntry(init)?.command === 'sleep', 20_000);
    const targets = (pid: number, fds: readonly string[]) =>
      fds.map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    const given = targets(command, ['1', '2', '3']);
    expect(targets(init, ['0', '1', '2'])).toEqual(['/dev/null', '/dev/null', '/dev/null']);
    expect(targets(init, readdirSync(`/proc/${init}/fd`)).filter((target) => given.includes(target))).toEqual(
      [],
    );
    await started.agent.stop(immediate);
  });

  it('the directory, input, variables and messages of a spec are as in every containment', async () => {
    const { agent, out, messages } = await test.run(
      shell(`pwd; cat; echo "$A_B"; echo '{"type":"cost","usd":0.5}' >&3; env | grep -c BELAY_SET_ || true`),
      { cwd: '/usr', stdin: 'given\n', env: { A_B: 'two words' } },
    );
    expect((await agent.ended).exitCode).toBe(0);
    expect(out).toEqual(['/usr', 'given', 'two words', '0']);
    expect(messages).toEqual([{ type: 'cost', usd: 0.5 }]);
    expect(agent.badLines).toBe(0);
  });

  it('a later line like the report of init is a bad line, and changes nothing', async () => {
    const { agent, bad } = await test.run(shell('echo "$BELAY_COOKIE init 1 1" >&3; exit 3'));
    const { exitCode, report } = await agent.ended;
    expect(exitCode).toBe(3);
    expect(bad).toHaveLength(1);
    expect(report.evidence[1]?.detail).not.toContain('(process 1,');
    expect(report.proved).toBe(true);
  });

  it('an agent may make namespaces of its own, and their processes end with it', async () => {
    const nested = process.getuid?.() === 0 ? '' : '--user --map-current-user';
    const started = await test.ready(
      shell(`unshare ${nested} --pid --fork --mount-proc /bin/sh -c 'echo ready; sleep 1000 & wait'`),
    );
    const below = descendantsOf(started.agent.identity.pid);
    expect(below.length).toBeGreaterThanOrEqual(4);
    const { report } = await started.agent.stop(immediate);
    expect(report.proved).toBe(true);
    expect(below.filter(isAlive)).toEqual([]);
  });

  it('a guardian that dies leaves its agents to the worker, which ends them with proof', async () => {
    const started = await test.ready(shell(`${ORPHAN}; exec sleep 1000`));
    process.kill(test.host.guardianPid ?? 0, 'SIGKILL');
    const { report } = await started.agent.stop(immediate);
    expect(report.proved).toBe(true);
    expect(gradeOf(report)).toBe('kernel');
    expect(test.alive()).toEqual([]);
  });

  it('the first process outside is killed: the command ends with its namespace', async () => {
    const started = await test.ready(shell(`${ORPHAN}; exec sleep 1000`));
    const namespace = namespaceOf(started);
    process.kill(started.agent.identity.pid, 'SIGKILL');
    const { signal, report } = await started.agent.ended;
    expect(signal).toBe('SIGKILL');
    expect(report.proved).toBe(true);
    expect(inNamespace(namespace)).toEqual([]);
  });

  it('a process that waits for an attempt becomes an agent as it is, and ends with the same proof', async () => {
    const script = `echo "$BELAY_COOKIE ready" >&3; read -r line; echo "$BELAY_COOKIE begun" >&3; ${ORPHAN}; exec sleep 1000`;
    const waits = await test.host.startWaiting({ command: shell(script), env: {} });
    await waits.ready;
    const namespace = readlinkSync(`/proc/${waits.identity.pid}/ns/pid_for_children`);
    const out: string[] = [];
    const agent = test.host.assign(waits, {
      agentId: 'agt_waited',
      args: [],
      env: {},
      stdin: '',
      graceMs: 100,
      onOutput: ({ bytes }) => out.push(bytes.toString()),
      onMessage: () => undefined,
    });
    await eventually('its attempt', () => out.includes('ready'), 10_000);
    const ended = await agent?.stop(immediate);
    expect(ended?.startError).toBeUndefined();
    expect(ended?.report.evidence.map(({ kind }) => kind)).toContain('namespace-ended');
    expect(inNamespace(namespace)).toEqual([]);
  });
});
