import { spawnSync } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { AgentMessage } from '#libs/contracts';
import {
  createProcessHost,
  nativeState,
  type AgentProcess,
  type CheckSeal,
  type Containment,
  type ProcessHost,
  type ProcessHostOptions,
  type SpawnRequest,
} from '#libs/spawner';

/** The test's own look into /proc, written apart from the product's, so that a fault there does not hide itself. */
export interface ProcEntry {
  readonly pid: number;
  readonly command: string;
  readonly state: string;
  readonly parent: number;
  readonly startTime: string;
}

/** One process; undefined when it is gone. A zombie is reported with state Z. */
export function procEntry(pid: number): ProcEntry | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const match = /^(\d+) \((.*)\) (\S) (\d+) /s.exec(text);
    const startTime = text
      .slice(text.lastIndexOf(')') + 2)
      .trim()
      .split(' ')[19];
    if (match === null || startTime === undefined) return undefined;
    const [, , command = '', state = '', parent] = match;
    return { pid, command, state, parent: Number(parent), startTime };
  } catch {
    return undefined;
  }
}

export function isAlive(pid: number): boolean {
  const entry = procEntry(pid);
  return entry !== undefined && entry.state !== 'Z' && entry.state !== 'X';
}

/** The present descendants of this process. */
export function descendantsOf(pid: number): number[] {
  const all = readdirSync('/proc').flatMap((name) =>
    /^\d+$/.test(name) ? (procEntry(Number(name)) ?? []) : [],
  );
  const found = new Set([pid]);
  for (let size = 0; size !== found.size;) {
    size = found.size;
    for (const one of all) if (found.has(one.parent)) found.add(one.pid);
  }
  found.delete(pid);
  return [...found];
}

/** Live processes with `text` in their environment. */
export function aliveWithEnvironment(text: string): ProcEntry[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/environ`, 'latin1').includes(text);
      } catch {
        return false;
      }
    })
    .flatMap((name) => procEntry(Number(name)) ?? [])
    .filter((entry) => isAlive(entry.pid));
}

/** Most conditions read all of /proc. So the looks become rarer, to spare the machine that does the awaited work. Milliseconds. */
const FIRST_LOOK_MS = 2;
const LONGEST_LOOK_MS = 50;

/** Waits until `condition` is true. @throws after `boundMs`, with the name of the condition. */
export async function eventually(what: string, condition: () => boolean, boundMs: number): Promise<number> {
  const startedAt = performance.now();
  while (!condition()) {
    const waited = performance.now() - startedAt;
    if (waited > boundMs) throw new Error(`not within ${boundMs} ms: ${what}`);
    const rest = Math.min(LONGEST_LOOK_MS, Math.max(FIRST_LOOK_MS, waited / 10));
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
  return performance.now() - startedAt;
}

/**
 * The containments that must work here. Root on a mounted cgroup v2 must be able to make cgroups. Then every test runs in
 * containment `cgroup` too, and fails if the product cannot. Elsewhere it is left out, and the test's name says so.
 */
export function expectedContainments(): Containment[] {
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => / - cgroup2 \S+ rw/.test(line));
  const rest: Containment[] = nativeState().available ? ['descent', 'marks'] : ['marks'];
  if (process.getuid?.() === 0 && mounted) return ['cgroup', ...rest];
  const why = mounted ? 'this is not root' : 'no writable cgroup v2 is mounted';
  process.stdout.write(`Containment "cgroup" is not tested here: ${why}.\n`);
  return rest;
}

/** One containment of a worker here. */
export interface Mode {
  readonly name: string;
  readonly containment: Containment;
  readonly native: 'auto' | 'off';
}

/** Every containment that must work here, with libc and without: each has the guarantees of the process layer. */
export function expectedModes(): Mode[] {
  const { available } = nativeState();
  if (!available) process.stdout.write('Nothing is tested with libc here: koffi cannot be loaded.\n');
  return expectedContainments().flatMap((containment): Mode[] => {
    const without: Mode = { name: `${containment} without libc`, containment, native: 'off' };
    if (!available) return [without];
    const withLibc: Mode = { name: containment, containment, native: 'auto' };
    // Descent needs libc; marks are used where there is none.
    return containment === 'descent' ? [withLibc] : containment === 'marks' ? [without] : [withLibc, without];
  });
}

/** Why util-linux can make no PID namespace here, by the test's own look; undefined where it can: then Belay must be able to. */
export function noNamespaces(): string | undefined {
  const own = process.getuid?.() === 0 ? [] : ['--user', '--map-current-user'];
  const made = spawnSync('unshare', [...own, '--pid', '--fork', '--mount-proc', 'true'], {
    encoding: 'utf8',
  });
  return made.status === 0 ? undefined : (made.stderr ?? '').trim() || 'unshare(1) is missing';
}

/** Containment `namespace` with libc and without, where it must work. There an agent's first process is not the command. */
export function namespaceModes(): Mode[] {
  const why = noNamespaces();
  if (why !== undefined) process.stdout.write(`Containment "namespace" is not tested here: ${why}.\n`);
  const without: Mode = { name: 'namespace without libc', containment: 'namespace', native: 'off' };
  const withLibc: Mode = { name: 'namespace', containment: 'namespace', native: 'auto' };
  return why !== undefined ? [] : nativeState().available ? [withLibc, without] : [without];
}

/** The command of an agent in containment `namespace`: the child of its first process that is not process 1 inside. */
export function commandBelow(first: number): number {
  const isInit = (pid: number) => /^NSpid:.*\t1$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return descendantsOf(first).find((pid) => procEntry(pid)?.parent === first && !isInit(pid)) ?? 0;
}

/** The command line's words for proofs in the best containment that must work here. */
export function expectedGrade(): string {
  const isByKernel = expectedContainments()[0] !== 'marks' && nativeState().available;
  return !isByKernel ? ', proved by marks only, which an agent can strip' : ', proved by the kernel';
}

/** Acts like a server that knows the keys of these workers. */
export const knowing =
  (keys: Readonly<Record<string, string>>): CheckSeal =>
  async ({ signer, text, signature }) => {
    const key = keys[signer];
    if (key === undefined) return 'unknown';
    return createHmac('sha256', key).update(text).digest('hex') === signature ? 'right' : 'wrong';
  };

export const FIXTURES = resolve(__dirname, '../fixtures');

/** One agent of a test and its output so far. */
export interface TestAgent {
  readonly agent: AgentProcess;
  readonly out: string[];
  readonly err: string[];
  readonly messages: AgentMessage[];
  readonly bad: string[];
  /** Resolves with the first line for which `match` is true. */
  line(match: (line: string) => boolean): Promise<string>;
}

/** The wait for a line of a fixture, on a busy machine. Milliseconds. */
const LINE_MS = 120_000;

/** A process host for one test. Every process that it starts carries an unguessable tag. */
export class TestHost {
  private constructor(
    readonly host: ProcessHost,
    readonly tag: string,
    readonly dataDir: string,
    readonly workerId: string,
  ) {}

  static async start(
    { containment, native }: Pick<Mode, 'containment' | 'native'>,
    options: Partial<ProcessHostOptions> = {},
  ): Promise<TestHost> {
    const tag = randomUUID();
    const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'belay-spawner-'));
    const workerId = options.workerId ?? `test-${tag}`;
    const host = await createProcessHost({
      ownsProcess: true,
      ...options,
      workerId,
      dataDir,
      containment,
      native,
    });
    return new TestHost(host, tag, dataDir, workerId);
  }

  /** Starts a fixture, or any command, and does not wait. */
  async run(command: string | readonly string[], options: Partial<SpawnRequest> = {}): Promise<TestAgent> {
    const seen = {
      out: [] as string[],
      err: [] as string[],
      messages: [] as AgentMessage[],
      bad: [] as string[],
    };
    const listeners = new Set<(line: string) => void>();
    const agent = await this.host.spawn({
      agentId: `agt_${randomUUID()}`,
      command: typeof command === 'string' ? [join(FIXTURES, command)] : command,
      shell: false,
      stdin: '',
      graceMs: 300,
      ...options,
      env: { TEST_TAG: this.tag, ...options.env },
      onOutput: ({ stream, bytes }) => {
        const text = bytes.toString();
        seen[stream === 'stdout' ? 'out' : 'err'].push(text);
        for (const listener of listeners) listener(text);
      },
      onMessage: (message) => seen.messages.push(message),
      onBadLine: (text) => seen.bad.push(text),
    });
    const line = (match: (text: string) => boolean): Promise<string> =>
      new Promise<string>((found, missed) => {
        const early = seen.out.find(match);
        if (early !== undefined) return found(early);
        const timer = setTimeout(
          () => missed(new Error(`no such line within ${LINE_MS} ms of: ${JSON.stringify(seen.out)}`)),
          LINE_MS,
        );
        listeners.add((text) => {
          if (!match(text)) return;
          clearTimeout(timer);
          found(text);
        });
        const tooLate = (report: unknown): void => {
          clearTimeout(timer);
          missed(new Error(`ended before: ${JSON.stringify(report)}`));
        };
        void agent.ended.then(tooLate);
      });
    return { agent, ...seen, line };
  }

  /** Starts a fixture and waits until it reports that it is ready. */
  async ready(command: string | readonly string[], options: Partial<SpawnRequest> = {}): Promise<TestAgent> {
    const started = await this.run(command, options);
    await started.line((line) => line === 'ready');
    return started;
  }

  /** This host's running agents, by the test's own look. */
  alive(): ProcEntry[] {
    return aliveWithEnvironment(`TEST_TAG=${this.tag}`);
  }

  /** Closes the host and checks that nothing is left: no process, no cgroup, no file. */
  async end(): Promise<void> {
    await this.host.close();
    const left = { processes: this.alive(), files: readdirSync(join(this.dataDir, 'hosts')) };
    rmSync(this.dataDir, { recursive: true, force: true });
    const cgroups = cgroupsNamed(this.workerId);
    if (left.processes.length + left.files.length + cgroups.length > 0)
      throw new Error(`left behind: ${JSON.stringify({ ...left, cgroups })}`);
  }
}

/**
 * One host for all tests of a block, since the start of a host costs more than most tests. After a test that leaves a process
 * running, the host is closed with nothing left, and the next test gets a new one.
 */
export function sharedHost(mode: Pick<Mode, 'containment' | 'native'>): { readonly current: TestHost } {
  let shared: TestHost | undefined;
  const end = async (): Promise<void> => {
    const ending = shared;
    shared = undefined;
    await ending?.end();
  };
  beforeEach(async () => void (shared ??= await TestHost.start(mode)));
  afterEach(async () => {
    if (shared !== undefined && shared.host.agents().length + shared.alive().length > 0) await end();
  });
  afterAll(end);
  return {
    get current(): TestHost {
      if (shared === undefined) throw new Error('there is a host during tests only');
      return shared;
    },
  };
}

/** Worker cgroups of this name under this process's own cgroup. */
export function cgroupsNamed(workerId: string): string[] {
  const own = ownCgroup();
  return own === undefined ? [] : readdirSync(own).filter((name) => name === `belay-${workerId}`);
}

/** The cgroup v2 folder of this process. */
export function ownCgroup(): string | undefined {
  const mount = /^\d+ \d+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(
    readFileSync('/proc/self/mountinfo', 'utf8'),
  )?.[1];
  const path = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  return mount === undefined || path === undefined ? undefined : join(mount, path);
}
