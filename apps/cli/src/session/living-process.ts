import { readFileSync } from 'node:fs';

/** Field 22 of /proc/PID/stat, which tells a reused pid apart. Undefined where there is no process. */
export function startTimeOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // After the command, which may contain anything: state is field 3.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? undefined : fields[19];
}

/** Whether the process that recorded its pid and start time still runs. */
export function isLiving<T extends { readonly pid?: unknown; readonly startTime?: unknown }>(
  written: T | undefined,
): written is T & { readonly pid: number } {
  if (typeof written?.pid !== 'number') return false;
  const { pid, startTime } = written;
  const isTold = typeof startTime === 'string' || typeof startTime === 'number';
  return isTold && startTimeOf(pid) === String(startTime);
}
