import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';
import { isAbsent, isForbidden, readKernelFile } from './read-kernel-file';

/** One process as /proc/PID/stat describes it. */
export interface ProcStat {
  readonly pid: number;
  readonly command: string;
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  readonly threads: number;
  /** Clock ticks since boot; with the pid it names one process of this boot. */
  readonly startTime: string;
}

/** A process as two numbers, which suffice within one boot. */
export interface PidStart {
  readonly pid: number;
  readonly startTime: string;
}

/**
 * One process as it is now; undefined when no process has this pid.
 * @throws the system's error when that is unknown (out of file descriptors): unknown is not dead.
 */
export function readStat(pid: number): ProcStat | undefined {
  const line = readKernelFile(`/proc/${pid}/stat`);
  return line === undefined ? undefined : parseStat(line);
}

/** Parses a line of /proc/PID/stat. The name in parentheses may itself contain spaces and parentheses. */
export function parseStat(line: string): ProcStat | undefined {
  const open = line.indexOf('(');
  const close = line.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const field = line.slice(close + 2).split(' ');
  const startTime = field[19];
  if (startTime === undefined) return undefined;
  return {
    pid: Number(line.slice(0, open - 1)),
    command: line.slice(open + 1, close),
    state: field[0] ?? '?',
    parent: Number(field[1]),
    group: Number(field[2]),
    session: Number(field[3]),
    threads: Number(field[17]),
    startTime,
  };
}

/**
 * Whether this process still runs. A zombie does not, although `kill(pid, 0)` succeeds. A zombie first thread whose other
 * threads run on is alive.
 */
export function isRunning(stat: ProcStat): boolean {
  const dead = stat.state === 'Z' || stat.state === 'X' || stat.state === 'x';
  return !dead || stat.threads > 1;
}

/** The same process, if it still runs; undefined when it ended or its pid names another one now. */
export function findAlive(process: PidStart): ProcStat | undefined {
  const stat = readStat(process.pid);
  return stat !== undefined && stat.startTime === process.startTime && isRunning(stat) ? stat : undefined;
}

// For environments; used synchronously only.
const buffer = Buffer.allocUnsafe(64 * 1024);

/** Every pid that exists now. */
export function listPids(): number[] {
  const pids: number[] = [];
  for (const name of readdirSync('/proc')) {
    const code = name.charCodeAt(0);
    if (code >= 49 && code <= 57) pids.push(Number(name));
  }
  return pids;
}

/**
 * The number given last to a process or thread in this PID namespace. The next one is higher, until the numbers wrap around.
 */
export function newestPid(): number {
  return Number(readKernelFile('/proc/loadavg')?.trim().split(' ')[4]);
}

/**
 * The values of the environment variable `name` with which a process was started. Empty when it has none, cleared or overwrote
 * it, or this process may not read it. An environment larger than the buffer is read in overlapping pieces.
 */
export function readEnvironment(pid: number, name: string): string[] {
  let fd: number;
  try {
    fd = openSync(`/proc/${pid}/environ`, 'r');
  } catch (error) {
    if (isAbsent(error) || isForbidden(error)) return [];
    throw error;
  }
  const needle = `${name}=`;
  const found: string[] = [];
  let carried = 0;
  let atStart = true;
  try {
    for (;;) {
      const read = readSync(fd, buffer, carried, buffer.length - carried, null);
      const length = carried + read;
      if (read <= 0) {
        collect(buffer.subarray(0, length), needle, atStart, found);
        return found;
      }
      const lastEnd = buffer.lastIndexOf(0, length - 1);
      if (lastEnd < 0) {
        // An entry longer than the buffer cannot be a cookie: drop it, but remember that the next bytes are inside an entry.
        if (length === buffer.length) atStart = false;
        carried = length === buffer.length ? 0 : length;
        continue;
      }
      collect(buffer.subarray(0, lastEnd), needle, atStart, found);
      buffer.copyWithin(0, lastEnd + 1, length);
      carried = length - lastEnd - 1;
      atStart = true;
    }
  } catch (error) {
    if (isAbsent(error) || isForbidden(error)) return found;
    throw error;
  } finally {
    closeSync(fd);
  }
}

function collect(bytes: Buffer, needle: string, atStart: boolean, found: string[]): void {
  let from = 0;
  for (;;) {
    const at = bytes.indexOf(needle, from, 'latin1');
    if (at < 0) return;
    const valueAt = at + needle.length;
    const end = bytes.indexOf(0, valueAt);
    const startsEntry = at === 0 ? atStart : bytes[at - 1] === 0;
    if (startsEntry) found.push(bytes.toString('latin1', valueAt, end < 0 ? bytes.length : end));
    from = valueAt;
  }
}

/** Now in clock ticks since boot (USER_HZ is 100 on every Linux on which Node runs), comparable with a start time. */
export function ticksSinceBoot(): number {
  return Math.round(Number(readKernelFile('/proc/uptime')?.split(' ')[0]) * 100);
}

let knownBootId: string | undefined;

/** The id of this boot, read once. */
export function bootId(): string {
  knownBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return knownBootId;
}
