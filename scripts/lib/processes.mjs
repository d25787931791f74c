// Processes by identity: a pid alone may name another process a moment later, so pid and start time go together.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';

const HAS_PROC = existsSync('/proc/self/stat');

/** `PID:START` of a running process; undefined when there is none (a zombie does not run). */
export function identify(pid) {
  if (!HAS_PROC) return identifyByPs(pid);
  const stat = read(`/proc/${pid}/stat`);
  if (stat === '') return undefined;
  const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return field[0] === 'Z' || field[0] === 'X' ? undefined : `${pid}:${field[19]}`;
}

/**
 * The processes that were started with this environment variable; none where there is no /proc. Belay's services close their
 * environment to their own user. So a process that runs a program below `programs`, and is younger than this process, counts
 * too.
 */
export function findByEnvironment(name, value, programs) {
  if (value === '') return [];
  const entry = `${name}=${value}`;
  const isClosed = (pid) =>
    programs !== undefined && commandOf(pid).includes(`${programs}/`) && startOf(pid) > startOf(process.pid);
  return findWhere((pid) => {
    const environment = read(`/proc/${pid}/environ`);
    return environment === '' ? isClosed(pid) : environment.split('\0').includes(entry);
  });
}

const startOf = (pid) => Number(identify(pid)?.split(':')[1] ?? 0);

/** The processes with this folder, or one below it, as working directory; none where there is no /proc. */
export function findByFolder(folder) {
  return findWhere((pid) => `${linkOf(`/proc/${pid}/cwd`)}/`.startsWith(`${folder}/`));
}

function findWhere(matches) {
  if (!HAS_PROC) return [];
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .filter(matches)
    .map((pid) => ({ pid: Number(pid), identity: identify(pid), command: commandOf(pid) }))
    .filter((found) => found.identity !== undefined);
}

/** Signals that very process, never another one with its pid. */
export function signal(found, name) {
  if (identify(found.pid) !== found.identity) return;
  try {
    process.kill(found.pid, name);
  } catch {
    // The process ended just now.
  }
}

function commandOf(pid) {
  const line = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').replaceAll(/\s+/g, ' ').trim();
  return line.length > 160 ? `${line.slice(0, 160)} …` : line;
}

function identifyByPs(pid) {
  try {
    const args = ['-o', 'stat=,lstart=', '-p', String(pid)];
    const line = execFileSync('ps', args, {
      encoding: 'utf8',
      timeout: 5_000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [state = '', ...start] = line.trim().split(/\s+/);
    return state === '' || state.startsWith('Z') ? undefined : `${pid}:${start.join(' ')}`;
  } catch {
    return undefined;
  }
}

function linkOf(path) {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function read(path) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
