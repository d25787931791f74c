import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isBelayError, type BelayError } from '#libs/contracts';
import type { SpawnRequest } from '#libs/spawner';
import {
  eventually,
  expectedModes,
  FIXTURES,
  isAlive,
  ownCgroup,
  procEntry,
  sharedHost,
  TestHost,
  type TestAgent,
} from '../support/proc';

const immediate = { mode: 'immediate', graceMs: 0 } as const;

jest.setTimeout(30_000);

describe.each(expectedModes())('starting processes, containment $name', (mode) => {
  const { containment } = mode;
  let test: TestHost;
  let folder: string;
  const shared = sharedHost(mode);
  beforeEach(() => {
    test = shared.current;
    folder = mkdtempSync(join(tmpdir(), 'belay-start-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function script(name: string, text: string, mode = 0o755): string {
    const path = join(folder, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  }

  async function refusal(start: Promise<unknown>): Promise<BelayError> {
    const error: unknown = await start.then(
      () => new Error('it started'),
      (reason: unknown) => reason,
    );
    if (!isBelayError(error)) throw error as Error;
    expect(error.code).toBe('SPAWN_FAILED');
    expect(test.alive()).toEqual([]);
    expect(test.host.agents()).toEqual([]);
    return error;
  }

  describe('R27 a start that has a time in which it may begin', () => {
    it('is refused when that is over before its turn comes: forty at once', async () => {
      let asked = 0;
      const startWithin = (): number => (asked++ < 3 ? 60_000 : 0);
      const starts = Array.from({ length: 40 }, async () => test.ready('polite.sh', { startWithin }));
      const settled = await Promise.allSettled(starts);
      const refused = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as BelayError] : []));
      expect(refused).toHaveLength(37);
      for (const { details } of refused)
        expect(details).toMatchObject({ reason: 'TOO_LATE', evidence: { kind: 'not-started' } });
      expect(test.host.agents()).toHaveLength(3);
    });

    it('ends before it becomes the command when that is over after its fork', async () => {
      const file = join(folder, 'ran');
      const { agent } = await test.run(['touch', file], { startWithin: () => 1 });
      expect(await agent.ended).toMatchObject({
        exitCode: 126,
        startedTooLate: true,
        startError: 'the time in which it may start was over before the command was run',
        report: { proved: true },
      });
      expect(existsSync(file)).toBe(false);
    });

    it('becomes the command in time, with the environment it was given', async () => {
      const env = { BELAY_UPTIME: 'mine' };
      const { agent, out } = await test.run(['printenv', 'BELAY_UPTIME'], { startWithin: () => 60_000, env });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(out).toEqual(['mine']);
    });
  });

  describe('R15 starts that fail', () => {
    it('names a program that is not there', async () => {
      const error = await refusal(test.run(['no-such-program'], { env: { PATH: '/nowhere' } }));
      expect(error.details['reason']).toBe('ENOENT');
      expect(error.message).toBe(
        'There is no program no-such-program on the PATH of the agent (/nowhere). Install it, or correct "command".',
      );
    });

    it('names a file that may not be executed', async () => {
      const file = script('plain', 'text', 0o644);
      const error = await refusal(test.run([file]));
      expect(error.details['reason']).toBe('EACCES');
      expect(error.message).toBe(`${file} is not executable for the worker. Try: chmod +x ${file}`);
    });

    it('names an interpreter that is not there', async () => {
      const file = script('script', '#!/no/such/interpreter\n');
      const error = await refusal(test.run([file]));
      expect(error.details['reason']).toBe('ENOENT');
      expect(error.message).toContain('/no/such/interpreter');
    });

    it.each([
      ['missing', 'does not exist (ENOENT)'],
      ['a-file', 'is not a directory'],
    ])('names a working directory that is %s', async (name, problem) => {
      script('a-file', '');
      const error = await refusal(test.run(['true'], { cwd: join(folder, name) }));
      expect(error.details['reason']).toBe('BAD_CWD');
      expect(error.message).toContain(problem);
    });

    it.each([
      ['an empty command', { command: [] }, 'BAD_COMMAND'],
      ['a zero byte', { command: ['echo', 'a\0b'] }, 'BAD_COMMAND'],
      ['two strings for a shell', { command: ['a', 'b'], shell: true }, 'BAD_COMMAND'],
      ['a variable without a name', { env: { '': 'x' } }, 'BAD_ENV'],
      ['too long a command', { command: ['true', 'x'.repeat(200_000)] }, 'E2BIG'],
    ])('refuses %s', async (_what, options, reason) => {
      const error = await refusal(test.run(['true'], options));
      expect(error.details['reason']).toBe(reason);
    });

    it('reports a program that turns out not to be one', async () => {
      const file = script('broken', '\x7fELF and then nothing');
      const started = await test.run([file]).catch((error: unknown) => error);
      // Without the shim the system reports it at once; behind the shim, the report does.
      if (isBelayError(started)) expect(started.code).toBe('SPAWN_FAILED');
      else {
        const report = await (started as Awaited<ReturnType<typeof test.run>>).agent.ended;
        expect(report.exitCode).not.toBe(0);
        expect(report.report.proved).toBe(true);
      }
    });

    it('refuses a second agent of the same id while the first runs', async () => {
      const first = await test.ready('polite.sh', { agentId: 'twin' });
      const again = await test.run('polite.sh', { agentId: 'twin' }).catch((error: BelayError) => error);
      expect((again as BelayError).details['reason']).toBe('DUPLICATE');
      await first.agent.stop(immediate);
      const third = await test.ready('polite.sh', { agentId: 'twin' });
      await third.agent.stop(immediate);
    });

    it('refuses to start after close', async () => {
      const other = await TestHost.start(mode);
      await other.end();
      const error = await other.run('polite.sh').catch((reason: BelayError) => reason);
      expect((error as BelayError).details['reason']).toBe('CLOSED');
    });

    it('handles an exit before any look, and a stop of an ended agent', async () => {
      for (let round = 0; round < 20; round += 1) {
        const { agent } = await test.run(['true']);
        expect(agent.identity.startTime).toMatch(/^\d+$/);
        const stopping = round % 2 === 0 ? agent.stop(immediate) : agent.ended;
        const report = await stopping;
        expect(report.report.proved).toBe(true);
        if (round % 2 === 1) expect(report).toMatchObject({ exitCode: 0, leftovers: 0 });
        expect(await agent.stop(immediate)).toBe(report);
      }
    });
  });

  describe('the agent protocol', () => {
    it('gives input on stdin and takes messages on fd 3, also a last line without newline', async () => {
      const { agent, out, err, messages } = await test.run('reports.sh', { stdin: '{"input":1}\n' });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(out).toEqual(['got {"input":1}']);
      expect(err).toEqual(['warning']);
      expect(messages).toEqual([
        { type: 'cost', usd: 0.25 },
        { type: 'progress', value: 50 },
        { type: 'result', value: { ok: true } },
      ]);
    });

    it('counts bad lines and goes on', async () => {
      const { agent, messages, bad } = await test.run('garbage-messages.sh');
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(messages).toEqual([{ type: 'cost', usd: 1 }]);
      expect(agent.badLines).toBe(6);
      expect(bad).toHaveLength(6);
      expect(Math.max(...bad.map((line) => line.length))).toBeLessThanOrEqual(256);
    });

    it('hands on every byte as it was written; a long line comes in pieces', async () => {
      const logFile = join(folder, 'agent.log');
      const { agent, out } = await test.run('odd-output.sh', { logFile });
      await agent.ended;
      expect(out.slice(0, 2)).toEqual(['bad \uFFFD byte', 'café']);
      expect(out.slice(2, -1).map((piece) => piece.length)).toEqual([65_536, 65_536, 65_536, 3_392]);
      expect(out.at(-1)).toBe('last');
      const entry = /^\S+Z stdout ([FP]) (.*)$/gm;
      const written = [...readFileSync(logFile, 'latin1').matchAll(entry)];
      expect(written.map(([, end]) => end).join('')).toBe('FFPPPFP');
      const text = written.map(([, end, line]) => `${line}${end === 'F' ? '\n' : ''}`).join('');
      expect(text).toBe(`bad \xff byte\ncaf\xc3\xa9\n${'x'.repeat(200_000)}\nlast`);
    });

    it('lets scripts open their pipes by name', async () => {
      const { agent, out, err, messages } = await test.run('opens-by-name.sh', { stdin: 'hello\n' });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect({ out, err, messages }).toEqual({
        out: ['hello'],
        err: ['oops'],
        messages: [{ type: 'cost', usd: 2 }],
      });
    });

    it('takes an agent that reads none of a large input for no error', async () => {
      const { agent } = await test.run(['true'], { stdin: 'x'.repeat(4_000_000) });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
    });

    it('passes a large input whole', async () => {
      const { agent, out } = await test.run(['wc', '-c'], { stdin: 'x'.repeat(1_000_000) });
      await agent.ended;
      expect(out.join('').trim()).toBe('1000000');
    });

    it('keeps the beginning and the end of a log that is too long, and counts the bytes in between', async () => {
      const other = await TestHost.start(mode, { logCapBytes: 20_000 });
      const logFile = join(folder, 'agent.log');
      const { agent, out } = await other.run('talkative.sh', { logFile });
      await agent.ended;
      expect(out).toHaveLength(2_000);
      const files = [logFile, `${logFile}.1`, `${logFile}.2`].map((path) => readFileSync(path, 'utf8'));
      expect(files.join('').length).toBeLessThanOrEqual(20_000);
      const kept = files.flatMap((text) => text.trimEnd().split('\n')).map((line) => line.slice(25));
      const numbers = kept.map((line) => Number(/^stdout F line (\d+) of many/.exec(line)?.[1]));
      expect([numbers[0], numbers.at(-1)]).toEqual([0, 1_999]);
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      expect(numbers.filter((n, i) => i > 0 && n !== (numbers[i - 1] ?? 0) + 1)).toHaveLength(1);
      const lost = out.filter((_, i) => !numbers.includes(i));
      expect(agent.lostBytes).toBe(lost.join('').length);
      await other.end();
    });

    it('slows down an agent that writes without end, and no other', async () => {
      const others = ['yes', 'yes', 'yes', 'yes'].map((command) => test.run([command]));
      const shouting = await Promise.all(others);
      const seen = await test.run(['sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.1; done']);
      const waits = test.host.outputWaits;
      const lag = monitorEventLoopDelay({ resolution: 5 });
      lag.enable();
      expect(await seen.agent.ended).toMatchObject({ exitCode: 0 });
      lag.disable();
      expect(seen.out).toHaveLength(10);
      // Bounded: without a rate it is many times as much, and the event loop is late by seconds.
      const lines = shouting.reduce((sum, { out }) => sum + out.length, 0);
      expect(lines).toBeGreaterThan(10_000);
      expect(test.host.outputWaits).toBeGreaterThan(waits);
      expect(lag.percentile(90) / 1e6).toBeLessThan(500);
      await Promise.all(shouting.map(async ({ agent }) => agent.stop(immediate)));
    });

    it('runs an agent whose log cannot be written', async () => {
      const { agent, out } = await test.run('talkative.sh', {
        logFile: join(folder, 'no', 'such', 'folder'),
      });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(out).toHaveLength(2_000);
    });

    it('R17 runs an agent in the place of whose log another agent put a FIFO', async () => {
      const logFile = join(folder, 'fifo.log');
      execFileSync('mkfifo', [logFile]);
      const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
      const { agent, out } = await test.run('talkative.sh', { logFile });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(out).toHaveLength(2_000);
      expect(String(warned.mock.calls[0]?.[0])).toContain('is not a regular file');
      warned.mockRestore();
    });

    it('outlives a listener that throws', async () => {
      const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
      const agent = await test.host.spawn({
        agentId: 'thrower',
        command: ['echo', 'x'],
        shell: false,
        env: {},
        stdin: '',
        graceMs: 100,
        onOutput: () => {
          throw new Error('a fault in a listener');
        },
        onMessage: () => {},
      });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(String(warned.mock.calls[0]?.[0])).toContain('a fault in a listener');
      warned.mockRestore();
    });
  });

  describe('the line of a shim that could not start the program', () => {
    const shell = { shell: true };
    const said = (line: string): string => `echo "$BELAY_COOKIE ${line}" >&3`;

    it.each([
      ['with another exit code', `${said('join')}; exit 0`, 0, 1],
      ['with the exit code of another', `${said('exec 127')}; exit 126`, 126, 1],
      ['after something was said', `echo '{"type":"cost","usd":1}' >&3; ${said('join')}; exit 126`, 126, 1],
      [
        'before something is said',
        `${said('exec 127')}; echo '{"type":"cost","usd":1}' >&3; exit 127`,
        127,
        1,
      ],
      ['twice', `${said('exec 127')}; ${said('exec 127')}; exit 127`, 127, 2],
      ['of a program that prints', `echo x; ${said('exec 127')}; exit 127`, 127, 1],
      ['with other words', `${said('join now')}; exit 126`, 126, 1],
    ])('is not taken from a program: %s', async (_what, command, exitCode, bad) => {
      const { agent } = await test.run([command], shell);
      const report = await agent.ended;
      expect(report.exitCode).toBe(exitCode);
      expect(report.startError).toBeUndefined();
      expect(agent.badLines).toBe(bad);
    });

    it('is taken from the shim', async () => {
      const file = script('goes', '#!/bin/sh\n');
      // An executable file that cannot be executed: only the kernel finds that out.
      writeFileSync(file, Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]), Buffer.alloc(64)]));
      const started = await test.run([file]);
      const report = await started.agent.ended;
      expect(report.exitCode).toBe(126);
      expect(report.startError).toContain('could not be executed');
      expect(started.agent.badLines).toBe(0);
    });
  });

  describe('environment and limits', () => {
    it('hands on the allow-list and the spec, never the token or the server', async () => {
      process.env['BELAY_TOKEN'] = 'secret-token';
      process.env['BELAY_VALKEY_URL'] = 'redis://secret';
      process.env['LC_TEST'] = 'C';
      const other = await TestHost.start(mode);
      try {
        const { agent, out } = await other.run(['/usr/bin/env'], { env: { MINE: '1', 'dotted.name': '2' } });
        await agent.ended;
        const names = out.map((line) => line.split('=')[0]);
        expect(out).toEqual(expect.arrayContaining(['MINE=1', 'dotted.name=2', 'LC_TEST=C']));
        expect(names).toEqual(expect.arrayContaining(['PATH', 'BELAY_COOKIE', 'BELAY_WORKER_COOKIE']));
        expect(out.join('\n')).not.toContain('secret');
      } finally {
        await other.end();
        delete process.env['BELAY_TOKEN'];
        delete process.env['BELAY_VALKEY_URL'];
        delete process.env['LC_TEST'];
      }
    });

    it('hands on variables that a shell would use itself, exactly as in the spec', async () => {
      const odd: Record<string, string> = {
        OPTIND: 'abc',
        OPTARG: 'x',
        IFS: 'x',
        PPID: '5',
        PWD: '/nowhere',
        OLDPWD: '/q',
        PATH: '/usr/bin:/bin',
        HOME: '/no home',
        ENV: '/tmp/envfile',
        BASH_ENV: '/tmp/envfile',
        PS1: '$(id)',
        PS2: 'b',
        PS4: '$(id)',
        CDPATH: '/x:/y',
        MAIL: 'm',
        MAILPATH: 'n',
        MAILCHECK: 'z',
        LINENO: 'z',
        SHLVL: '4',
        HISTSIZE: '-1',
        SHELLOPTS: 'xtrace',
        POSIXLY_CORRECT: '1',
        RANDOM: '7',
        TERM: 'dumb',
        _: 'u',
        'a.b': '1',
        'x-y': '2  3',
        '-u': 'HOME',
        '--help': '',
        'BASH_FUNC_f%%': '() { echo pwn; }',
        'BASH_FUNC_trap%%': '() { echo pwn; }',
      };
      const { agent, out, err } = await test.run(['/usr/bin/env'], { env: odd });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(err).toEqual([]);
      const seen = new Map(out.map((line) => [line.slice(0, line.indexOf('=')), line]));
      for (const [name, value] of Object.entries(odd)) expect(seen.get(name)).toBe(`${name}=${value}`);
      // Each by itself, too: no value may be right only because of another.
      for (const [name, value] of Object.entries(odd)) {
        const one = await test.run(['/usr/bin/env'], { env: { [name]: value } });
        expect(await one.agent.ended).toMatchObject({ exitCode: 0 });
        expect(one.out).toContain(`${name}=${value}`);
        expect([name, one.err]).toEqual([name, []]);
      }
    });

    it('starts a program with "=" in its path behind such names', async () => {
      const file = script('a=b', '#!/bin/sh\necho "$0 $1"\n');
      const { agent, out } = await test.run([file, 'c=d'], { env: { 'a.b': '1', PATH: '/nowhere' } });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(out).toEqual([`${file} c=d`]);
    });

    it('R51 nothing that a spec sets is seen by what runs before its command is held', async () => {
      // The dynamic loader of glibc writes a line for every program that it starts.
      const env = { LD_DEBUG: 'files', LD_DEBUG_OUTPUT: join(folder, 'loader') };
      const { agent, out } = await test.run(['/usr/bin/printenv', 'LD_DEBUG'], { env });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      expect(out).toEqual(['files']);
      const path = join(folder, `loader.${agent.identity.pid}`);
      if (!existsSync(path))
        return void process.stdout.write('Not tested: this loader knows no LD_DEBUG_OUTPUT.\n');
      const given = [...readFileSync(path, 'latin1').matchAll(/transferring control: (.*)$/gm)];
      expect(given.map(([, program]) => program)).toEqual(['/usr/bin/printenv']);
    });

    it('R51 a library that a spec preloads leaves no daemon outside of its tree', async () => {
      const library = join(folder, 'preloaded.so');
      const source = join(FIXTURES, 'preloaded.c');
      const built = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source], { stdio: 'ignore' });
      if (built.status !== 0) return void process.stdout.write('Not tested: there is no C compiler.\n');
      const record = join(folder, 'daemon');
      const { agent } = await test.run(['sleep', '1000'], { env: { LD_PRELOAD: library, RECORD: record } });
      await eventually('a daemon', () => existsSync(record) && readFileSync(record, 'utf8') !== '', 10_000);
      const daemon = Number(readFileSync(record, 'utf8'));
      const { report } = await agent.stop(immediate);
      expect(report.proved).toBe(true);
      expect(isAlive(daemon)).toBe(false);
    });

    it('hands on every character of every variable', async () => {
      const every = String.fromCodePoint(...Array.from({ length: 0x2ff }, (_, i) => i + 1), 0x4e2d, 0x1f600);
      const odd = {
        EVERY: every,
        BACK: '\\\\ \\n $HOME `id` "\'',
        EMPTY: '',
        BELAY_SET_X: 'x',
        X: 'y',
        STARS: ' * \n\n',
      };
      const { agent, out } = await test.run([process.execPath, '-p', 'JSON.stringify(process.env)'], {
        env: { ...odd, MANY: 'x'.repeat(100_000) },
      });
      expect(await agent.ended).toMatchObject({ exitCode: 0 });
      const seen = JSON.parse(out.join('')) as Record<string, string>;
      expect(seen).toMatchObject(odd);
      expect(seen['MANY']).toHaveLength(100_000);
      expect(Object.keys(seen).filter((name) => name.startsWith('BELAY_'))).toEqual(
        expect.arrayContaining(['BELAY_SET_X', 'BELAY_COOKIE', 'BELAY_WORKER_COOKIE']),
      );
      expect(Object.keys(seen).filter((name) => name.startsWith('BELAY_'))).toHaveLength(3);
    });

    it('keeps the cookies out of every command line, and a spec cannot set them', async () => {
      const { agent } = await test.ready('polite.sh', { env: { BELAY_COOKIE: 'mine' } });
      const environment = readFileSync(`/proc/${agent.identity.pid}/environ`, 'latin1');
      const cookie = /BELAY_COOKIE=([0-9a-f]{32})\0/.exec(environment)?.[1] ?? '';
      const worker = /BELAY_WORKER_COOKIE=([0-9a-f]{32})\0/.exec(environment)?.[1] ?? '';
      expect(cookie).not.toBe('');
      for (const pid of [agent.identity.pid, test.host.guardianPid]) {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
        expect(line.includes(cookie) || line.includes(worker)).toBe(false);
      }
      await agent.stop(immediate);
    });

    it('reports every limit that this machine cannot enforce', async () => {
      const { agent } = await test.run(['true'], { limits: { memoryMb: 64, pids: 10, cpus: 0.5 } });
      await agent.ended;
      for (const { limit, reason } of agent.unappliedLimits) expect(`${limit}: ${reason}`).toMatch(/: .+/);
      if (containment !== 'cgroup')
        expect(agent.unappliedLimits.map(({ limit }) => limit)).toEqual(['memoryMb', 'pids', 'cpus']);
    });
  });

  it('takes turns when many are to be started at once', async () => {
    // However fast the machine: starts that are asked for in one turn of the event loop take several turns.
    let turns = 0;
    let counting = true;
    const count = (): void => {
      turns += 1;
      if (counting) setImmediate(count);
    };
    const starts = Array.from({ length: 100 }, () => test.run(['true']));
    setImmediate(count);
    const started = await Promise.all(starts);
    counting = false;
    await Promise.all(started.map(({ agent }) => agent.ended));
    expect(turns).toBeGreaterThan(3); // 18 to 39 here; 1 when they are all started in one
  });

  describe('R54 nothing is left of an agent that ended', () => {
    const immediately = async ({ agent }: TestAgent) => agent.stop(immediate);
    const childrenOf = (parent: number): number[] =>
      readdirSync('/proc')
        .map(Number)
        .filter((pid) => pid > 0 && procEntry(pid)?.parent === parent);
    const byItself = async (): Promise<unknown> => undefined;
    const ENDINGS: [string, () => Promise<TestAgent>, (started: TestAgent) => Promise<unknown>][] = [
      ['completed', async () => test.run(['true'], tidy()), byItself],
      ['failed', async () => test.run(['false'], tidy()), byItself],
      ['not a program', async () => test.run([script('odd', '\x7fELF and then nothing')], tidy()), byItself],
      ['killed', async () => test.ready('deaf-with-grandchildren.sh', tidy()), immediately],
      [
        'killed by a grace that ran out',
        async () => test.ready('deaf.sh', tidy()),
        async ({ agent }) => agent.stop({ mode: 'graceful', graceMs: 100 }),
      ],
      [
        'killed while frozen',
        async () => test.ready('polite.sh', tidy()),
        async ({ agent }) => agent.freeze().then(async () => agent.stop(immediate)),
      ],
      ['completed and left processes', async () => test.run('leaves-children.sh', tidy()), byItself],
    ];
    const tidy = (): Partial<SpawnRequest> => ({
      agentId: 'tidy',
      stdin: 'input',
      logFile: join(folder, 'log'),
      graceMs: 200,
    });
    const fds = (): string[] =>
      readdirSync('/proc/self/fd').flatMap((fd) => {
        try {
          const target = readlinkSync(`/proc/self/fd/${fd}`).replaceAll(/\d+/g, 'N');
          // One for the whole process, from its first watch on.
          return target === 'anon_inode:inotify' ? [] : target;
        } catch {
          return []; // the one that reads this very folder
        }
      });
    const cgroup = (): string => join(ownCgroup() ?? '/nowhere', `belay-${test.workerId}`, 'tidy');
    /** Temporary files: unused pipes have numbers for names. */
    const files = (): string[] =>
      readdirSync(join(test.dataDir, 'hosts', `${test.workerId}.pipes`)).filter(
        (name) => !/^\d+$/.test(name),
      );

    it.each(ENDINGS)('%s, and again', async (_, start, end) => {
      const endOnce = async (): Promise<void> => {
        const started = await start();
        await end(started);
        expect((await started.agent.ended).report.proved).toBe(true);
      };
      await endOnce();
      // Another process makes pipes in batches meanwhile.
      await eventually(
        'no process of ours but the guardian',
        () => childrenOf(process.pid).length === 1,
        10_000,
      );
      const before = fds();
      for (let again = 0; again < 3; again += 1) {
        await endOnce();
        expect(test.host.agents()).toEqual([]);
        expect(test.alive()).toEqual([]);
        expect(files()).toEqual([]);
        expect(existsSync(cgroup())).toBe(false);
      }
      await eventually('the pipes made', () => childrenOf(process.pid).length === 1, 10_000);
      expect(fds().toSorted()).toEqual(before.toSorted());
    });

    it('each step by itself: with its log and the folder of pipes gone, the rest goes all the same', async () => {
      const { agent } = await test.ready('deaf.sh', tidy());
      // The guardian and, where that does not start it, the agent.
      const children = mode.native === 'auto' && containment !== 'marks' ? 1 : 2;
      await eventually('the pipes made', () => childrenOf(process.pid).length === children, 10_000);
      const pipes = join(test.dataDir, 'hosts', `${test.workerId}.pipes`);
      for (const path of [folder, pipes]) rmSync(path, { recursive: true, force: true });
      await agent.stop(immediate);
      expect(test.host.agents()).toEqual([]);
      expect(test.alive()).toEqual([]);
      expect(existsSync(cgroup())).toBe(false);
      const next = await test.run(['true'], { agentId: 'tidy' });
      expect(await next.agent.ended).toMatchObject({ exitCode: 0 });
    });
  });

  it('refuses a worker id that is in use', async () => {
    const again = await TestHost.start(mode, { dataDir: test.dataDir, workerId: test.workerId }).catch(
      (error: BelayError) => error,
    );
    expect(again).toMatchObject({ code: 'INVALID_SETTINGS' });
    expect((again as BelayError).message).toContain(`runs already as process ${process.pid}`);
  });
});
