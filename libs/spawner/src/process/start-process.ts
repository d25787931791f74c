import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';
import { basename, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { isBelayError } from '#libs/contracts';
import type { AgentIsolation } from './agent-isolation';
import type { Cgroup } from './cgroup';
import { ownFirstProcess, type FirstProcess } from './first-process';
import type { GuardedProcess, GuardianStarts } from './guardian-starts';
import type { InputFile } from './input-file';
import { limitsFor, SET_MARK } from './limit-mark';
import { inNamespace } from './namespace';
import type { ChildPipe, PipePool } from './pipe-pool';
import { readStat, ticksSinceBoot, type ProcStat } from './proc-stat';
import type { SpawnFailure, SpawnRequest } from './process-host.types';
import { failure, type ResolvedCommand } from './resolve-command';
import { SET_VARIABLES, throughShell } from './shell-names';
import { COOKIE_VARIABLE, WORKER_COOKIE_VARIABLE } from './sweep';

/** A started first process with its pipes. */
export interface StartedProcess {
  readonly first: FirstProcess;
  readonly stat: ProcStat;
  /** Present only where the input could not be a file, or is given later. */
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly messages: Readable;
}

/**
 * Joins the cgroup (fd 4 is its open `cgroup.procs`) and then becomes the program: pid, start time and descriptors stay. If
 * joining or becoming fails, a line with the cookie on fd 3 tells that from any line of the program.
 */
const JOIN_SHIM = `
trap 'echo "$BELAY_COOKIE exec $?" >&3' EXIT
{ echo 0 >&4; } 2>/dev/null || { trap - EXIT; echo "$BELAY_COOKIE join" >&3; exit 126; }
exec 4>&-
${SET_MARK}
`;
/** Without a cgroup the shim only sets the mark. */
const MARK_SHIM = `
trap 'echo "$BELAY_COOKIE exec $?" >&3' EXIT
${SET_MARK}
`;
/** In a namespace of its own the process bears the mark already, since the shell outside has set it. */
const NAMESPACE_SHIM = `
trap 'echo "$BELAY_COOKIE exec $?" >&3' EXIT
`;
/** Reports on fd 3 that the shim runs, so everything in front of it succeeded. */
const BEGUN = `
echo "$BELAY_COOKIE begun" >&3
`;
/**
 * The shim of an isolated agent runs this as the agent's user: `$1` is the permit, `$2` the directory, `$3` the program. Only
 * the line before it on fd 3 reports that the isolation succeeded. The directory is entered before the change of user, so whether
 * the user may be there is checked again.
 */
const CHECK_ISOLATED = `
[ -e "$1" ] || { trap - EXIT; echo "$BELAY_COOKIE revoked" >&3; exit 126; }
[ -x "$2/." ] || { trap - EXIT; echo "$BELAY_COOKIE directory" >&3; exit 126; }
[ -x "$3" ] || { trap - EXIT; echo "$BELAY_COOKIE program" >&3; exit 126; }
shift 3
`;
/**
 * The shim runs this last, directly before it becomes the program: past the deadline it ends instead. The clock is that of
 * /proc/uptime, in hundredths of a second; where it cannot be read there is no deadline.
 */
const checkDeadline = (ticks: number): string => `
{ read -r BELAY_UPTIME </proc/uptime; } 2>/dev/null || BELAY_UPTIME=0.00
BELAY_UPTIME=\${BELAY_UPTIME%% *}
[ "\${BELAY_UPTIME%.*}\${BELAY_UPTIME#*.}" -le ${ticks} ] || { trap - EXIT; echo "$BELAY_COOKIE late" >&3; exit 126; }
`;
/** The input of a process that gets it later. */
export const LATER = Symbol('belay.input-later');
export type Input = string | InputFile | typeof LATER;

const SHELL = '/bin/sh';
/** The kernel keeps this many characters of a program's name. */
const MAX_COMM = 15;

/**
 * The deadline of a start, in ticks since boot; undefined without a limit.
 * @throws BelayError SPAWN_FAILED, reason TOO_LATE
 */
export function startDeadline({
  agentId,
  startWithin,
}: Pick<SpawnRequest, 'agentId' | 'startWithin'>): number | undefined {
  const leftMs = startWithin?.();
  if (leftMs === undefined || leftMs === Number.POSITIVE_INFINITY) return undefined;
  // One tick less, since now is inside of a tick.
  if (leftMs > 0) return ticksSinceBoot() + Math.floor(leftMs / 10) - 1;
  throw failure('TOO_LATE', `Agent ${agentId} was not started: the time in which it may start is over.`, {
    evidence: { kind: 'not-started', afterMs: 0 },
  });
}

interface StartWhere {
  readonly cgroup: Cgroup | undefined;
  /** Ticks since boot. */
  readonly deadline: number | undefined;
  /** Present where the guardian starts agents. */
  readonly starts: GuardianStarts | undefined;
  readonly isolated: AgentIsolation | undefined;
  /** Whether the command gets a PID namespace of its own. */
  readonly namespaced: boolean;
}

/**
 * Starts the first process as leader of a session and group of its own, and inside `cgroup`, if given, from its first
 * instruction on.
 * @throws BelayError SPAWN_FAILED; then no process is left.
 */
export async function startProcess(
  command: ResolvedCommand,
  env: Readonly<Record<string, string>>,
  input: Input,
  { cgroup, deadline, starts, isolated, namespaced }: StartWhere,
  pipes: PipePool,
): Promise<StartedProcess> {
  const theirs: number[] = [];
  const ours: (Socket | undefined)[] = [];
  let later: Socket | undefined;
  const give = (fd: number): number => {
    theirs.push(fd);
    return fd;
  };
  const closeTheirs = (): void => {
    for (const fd of theirs.splice(0)) closeSync(fd);
  };
  const givePipe = (pipe: ChildPipe | undefined): number | 'pipe' => {
    ours.push(pipe?.ours);
    return pipe === undefined ? 'pipe' : give(pipe.theirs);
  };
  try {
    if (input === LATER) later = givenLater(pipes, give);
    const file = input === LATER ? undefined : pipes.input(input);
    const stdio: (number | 'pipe')[] =
      later === undefined ? [file === undefined ? 'pipe' : give(file)] : [...theirs];
    for (let fd = 1; fd <= 3; fd += 1) stdio.push(givePipe(pipes.fromChild()));
    for (const fd of theirs) isolated?.give(fd);
    if (cgroup !== undefined) stdio.push(give(openSync(join(cgroup.path, 'cgroup.procs'), 'w')));
    const shimmed = {
      ...behindShim(command, env, { cgroup, deadline, isolated, namespaced }),
      cwd: command.cwd,
    };
    // Without named pipes there are no descriptors to pass: then this process starts its own child.
    if (starts !== undefined && stdio.length === theirs.length)
      return await launchByGuardian(command, shimmed, { theirs, closeTheirs, ours, starts, stdin: later });
    return await launch(command, shimmed, typeof input === 'string' ? input : '', stdio, ours, later);
  } catch (error) {
    for (const stream of [later, ...ours]) stream?.destroy();
    throw toFailure(error, command, isolated);
  } finally {
    closeTheirs();
  }
}

/** @throws BelayError SPAWN_FAILED where no pipe can be made. */
function givenLater(pipes: PipePool, give: (fd: number) => number): Socket {
  const pipe = pipes.toChild();
  if (pipe === undefined)
    throw failure('OTHER', 'No process can wait for its input here: there are no pipes.');
  give(pipe.theirs);
  pipe.ours.on('error', () => {}); // EPIPE: the process has ended
  return pipe.ours;
}

type ShimParts = Pick<StartWhere, 'cgroup' | 'deadline' | 'isolated' | 'namespaced'>;

function shimFor({ cgroup, deadline, isolated, namespaced }: ShimParts): string {
  return [
    namespaced ? NAMESPACE_SHIM : cgroup === undefined ? MARK_SHIM : JOIN_SHIM,
    isolated !== undefined || namespaced ? BEGUN : '',
    isolated === undefined ? '' : CHECK_ISOLATED,
    `${SET_VARIABLES}\n`,
    deadline === undefined ? '' : checkDeadline(deadline),
    'exec "$@"',
  ].join('');
}

interface Shimmed {
  /** The program with its arguments. */
  readonly argv: readonly [string, ...string[]];
  readonly env: Record<string, string>;
  readonly cwd: string;
}

async function launch(
  command: ResolvedCommand,
  { argv: [file, ...args], env, cwd }: Shimmed,
  input: string,
  stdio: (number | 'pipe')[],
  ours: readonly (Socket | undefined)[],
  later: Socket | undefined,
): Promise<StartedProcess> {
  const child = spawn(file, args, { cwd, env, detached: true, stdio });
  // Read in the same turn of the event loop: Node reaps only between turns, so even a process that has ended shows it.
  const stat = child.pid === undefined ? undefined : statOf(child.pid, command);
  if (stat === undefined) throw await spawnError(child);
  child.stdin?.on('error', () => {}); // EPIPE: the agent does not read its input
  child.stdin?.end(input);
  const [stdout, stderr, messages] = ours.map((stream, index) => stream ?? child.stdio[index + 1]);
  return {
    first: ownFirstProcess(child),
    stat,
    stdin: later ?? child.stdin ?? undefined,
    stdout: stdout as Readable,
    stderr: stderr as Readable,
    messages: messages as Readable,
  };
}

interface GuardedLaunch {
  /** The process's descriptors. */
  readonly theirs: readonly number[];
  readonly closeTheirs: () => void;
  readonly ours: readonly (Socket | undefined)[];
  readonly starts: GuardianStarts;
  readonly stdin: Socket | undefined;
}

async function launchByGuardian(
  command: ResolvedCommand,
  { argv, env, cwd }: Shimmed,
  { theirs, closeTheirs, ours, starts, stdin }: GuardedLaunch,
): Promise<StartedProcess> {
  const first = await starts.start({ file: argv[0], argv, env, cwd, fds: theirs });
  // They may have been the last that this process could open, and the look needs one.
  closeTheirs();
  const stat = seenFirst(first, command);
  const [stdout, stderr, messages] = ours as [Socket, Socket, Socket];
  return { first, stat, stdin, stdout, stderr, messages };
}

/** @throws BelayError SPAWN_FAILED, reason GUARDIAN: the process runs, and nothing can be proved about it. */
function seenFirst(first: GuardedProcess, command: ResolvedCommand): ProcStat {
  let cause: unknown;
  try {
    // Nobody reaps it before its end was reported here.
    const stat = statOf(first.pid, command);
    if (stat !== undefined) return stat;
  } catch (error) {
    cause = error;
  }
  // From its end on nobody waits for it, and it may be reaped.
  first.onExit(() => {});
  throw failure('GUARDIAN', `The first process of ${command.file} could not be seen.`, {}, cause);
}

function statOf(pid: number, { file }: ResolvedCommand): ProcStat | undefined {
  const now = readStat(pid);
  // The process is still the shim, or even a copy of this process. Its record names the program that it becomes.
  return now && { ...now, command: basename(file).slice(0, MAX_COMM) };
}

/** These variables identify the process from its first instruction on. */
const COOKIES = new Set([COOKIE_VARIABLE, WORKER_COOKIE_VARIABLE]);

/**
 * The shell gets the cookies alone. It sets the other variables once it is contained, and env(1), behind it, those that it
 * cannot set.
 */
function behindShim(
  command: ResolvedCommand,
  env: Readonly<Record<string, string>>,
  parts: ShimParts,
): Pick<Shimmed, 'argv' | 'env'> {
  const marks = limitsFor(env[WORKER_COOKIE_VARIABLE] ?? '', env[COOKIE_VARIABLE] ?? '');
  const through = throughShell(env, COOKIES);
  const program = [command.file, ...command.args];
  // A name may begin with a dash. env(1) takes a path with "=" for one more variable; nice(1) takes it for a program.
  const behind =
    through.behind.length === 0
      ? program
      : [
          '/usr/bin/env',
          '--',
          ...through.behind,
          ...(command.file.includes('=') ? ['/usr/bin/nice', '-n', '0'] : []),
          ...program,
        ];
  const { isolated, namespaced } = parts;
  const checked = isolated === undefined ? [] : [isolated.permit, command.cwd, command.file];
  const given = namespaced ? [] : marks;
  const args = ['-c', shimFor(parts), 'belay-start', ...given, ...checked, ...through.names, ...behind];
  const [first = SHELL, ...more] = [
    ...(namespaced ? inNamespace(marks) : []),
    ...(isolated?.before ?? []),
    SHELL,
    ...args,
  ];
  return { argv: [first, ...more], env: through.env };
}

/** Node reports some spawn failures by event (ENOENT, EMFILE, EAGAIN) and some by exception (ENOMEM, E2BIG). */
function spawnError(child: ChildProcess): Promise<Error> {
  return new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', () => resolve(new Error('the process ended before it could be seen')));
  });
}

const ADVICE: Partial<Record<SpawnFailure, string>> = {
  EMFILE: 'the worker is out of file descriptors. Raise "ulimit -n" or lower its concurrency.',
  EAGAIN: 'the limit of processes is reached. Raise "ulimit -u" or pids.max, or lower the concurrency.',
  ENOMEM: 'the machine is out of memory. Lower the concurrency or the memory limits.',
  E2BIG: 'command and environment are too long for the system (see getconf ARG_MAX). Pass data on stdin.',
  EACCES: 'it may not be executed (is its file system mounted noexec?).',
  ENOENT: 'the program or its interpreter does not exist.',
};

function toFailure(error: unknown, command: ResolvedCommand, isolated: AgentIsolation | undefined): Error {
  if (isBelayError(error)) return error;
  const code = (error as NodeJS.ErrnoException).code ?? 'OTHER';
  const [before] = isolated?.before ?? [];
  if (before !== undefined && (code === 'ENOENT' || code === 'EACCES'))
    return failure(
      'ISOLATION',
      `The agent was not started: ${before} could not be run (${code}).`,
      { code },
      error,
    );
  const reason = (code === 'ENFILE' ? 'EMFILE' : code in ADVICE ? code : 'OTHER') as SpawnFailure;
  const why = ADVICE[reason] ?? `${error instanceof Error ? error.message : String(error)}.`;
  return failure(reason, `${command.file} could not be started: ${why}`, { file: command.file, code }, error);
}

/** Whether the shim reports that it runs, with the requested isolation. */
export const isShimBegun = (line: string, cookie: string): boolean =>
  cookie !== '' && line === `${cookie} begun`;

/** The shim's report that it could not become the program; undefined for every other line of fd 3. */
export function readShimFailure(line: string, cookie: string): ShimFailure | undefined {
  if (cookie === '' || !line.startsWith(`${cookie} `)) return undefined;
  switch (line.slice(cookie.length + 1)) {
    case 'join':
      return {
        exitCode: 126,
        message: 'the process could not join its cgroup, so the command was not run',
      };
    case 'late':
      return {
        exitCode: 126,
        message: 'the time in which it may start was over before the command was run',
        isTooLate: true,
      };
    case 'revoked':
      return {
        exitCode: 126,
        message: 'its worker may start nothing any more, so the command was not run',
        code: 'ISOLATION',
      };
    case 'directory':
      return {
        exitCode: 126,
        message: 'the working directory may not be entered by the user that the agent was given',
        code: 'BAD_CWD',
      };
    case 'program':
      return {
        exitCode: 126,
        message: 'the program may not be executed by the user that the agent was given',
        code: 'EACCES',
      };
    case 'exec 126':
      return {
        exitCode: 126,
        message: 'the program was found but could not be executed (EACCES or a wrong format)',
      };
    case 'exec 127':
      return { exitCode: 127, message: 'the program or its interpreter vanished before it was executed' };
    default:
      return undefined;
  }
}

/** The shim ends with that code after it. A program that knows the cookie could write the line, but then it has run. */
export interface ShimFailure {
  readonly exitCode: number;
  readonly message: string;
  /** Default SPAWN_FAILED. */
  readonly code?: SpawnFailure;
  /** The deadline of the start has passed. */
  readonly isTooLate?: true;
}
