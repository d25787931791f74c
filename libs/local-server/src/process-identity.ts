import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** One process of this boot: a pid alone may name another one later. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat; where there is no /proc, the start time as `ps` prints it. */
  readonly startTime: string;
}

/** The process that has this pid now, a zombie not counted; undefined when there is none. */
export function identify(pid: number): ProcessIdentity | undefined {
  const seen = HAS_PROC ? fromProc(pid) : fromPs(pid);
  if (seen === undefined || seen.state.startsWith('Z') || seen.state.startsWith('X')) return undefined;
  return { pid, startTime: seen.startTime };
}

/** Whether that very process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTime === identity.startTime;
}

/** Sends `signal` to that very process. False when it is gone, or this user may not signal it. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    return process.kill(identity.pid, signal);
  } catch {
    return false;
  }
}

const HAS_PROC = existsSync('/proc/self/stat');

function fromProc(pid: number): { state: string; startTime: string } | undefined {
  let line: string;
  try {
    line = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name in parentheses may itself contain spaces and parentheses.
  const field = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return field[19] === undefined ? undefined : { state: field[0] ?? '?', startTime: field[19] };
}

function fromPs(pid: number): { state: string; startTime: string } | undefined {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      timeout: 5_000,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
    const at = line.indexOf(' ');
    return at < 0 ? undefined : { state: line.slice(0, at), startTime: line.slice(at).trim() };
  } catch {
    return undefined;
  }
}
