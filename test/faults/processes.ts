import { readdirSync, readFileSync } from 'node:fs';
import { readEntry } from '../trees/truth';

/** Whether that very process lives; a zombie does not run. */
export function lives(pid: number, startTime: string): boolean {
  const entry = readEntry(pid);
  return entry?.startTime === startTime && entry.state !== 'Z' && entry.state !== 'X';
}

/** Live processes with `text` in their environment, as `PID:STARTTIME`. */
export function carrying(text: string): string[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').includes(text)) return [];
    } catch {
      return []; // it ended during the look
    }
    const entry = readEntry(Number(name));
    return entry === undefined || ['Z', 'X'].includes(entry.state) ? [] : [`${name}:${entry.startTime}`];
  });
}

/** A live process of an agent. */
export interface LivingAgent {
  readonly process: string;
  readonly agentId: string;
  readonly workerId: string | undefined;
}

export function livingAgents(): LivingAgent[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const environ = environOf(name);
    const agentId = /(?:^|\0)BELAY_AGENT_ID=(agt_[\w-]+)/.exec(environ)?.[1];
    const entry = agentId === undefined ? undefined : readEntry(Number(name));
    if (agentId === undefined || entry === undefined || ['Z', 'X'].includes(entry.state)) return [];
    const workerId = /(?:^|\0)BELAY_WORKER_ID=(wrk_\w+)/.exec(environ)?.[1];
    return [{ process: `${name}:${entry.startTime}`, agentId, workerId }];
  });
}

function environOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    return ''; // it ended during the look
  }
}

export function childrenOf(parent: number): number[] {
  return readdirSync('/proc').flatMap((name) =>
    /^\d+$/.test(name) && readEntry(Number(name))?.parent === parent ? [Number(name)] : [],
  );
}

/** The guardian of a worker: its child that runs guardian-main. Undefined between two guardians. */
export function guardianOf(workerPid: number): number | undefined {
  const found = readdirSync('/proc').find((name) => {
    if (!/^\d+$/.test(name) || readEntry(Number(name))?.parent !== workerPid) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'latin1').includes('guardian-main');
    } catch {
      return false;
    }
  });
  return found === undefined ? undefined : Number(found);
}

/** False: there is no such process any more. */
export function send(pid: number | undefined, signal: NodeJS.Signals): boolean {
  if (pid === undefined) return false;
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** SIGKILL to one process, if it is still the same. */
export function killIdentity(id: string): void {
  const [pid = '0', startTime = ''] = id.split(':');
  if (lives(Number(pid), startTime)) send(Number(pid), 'SIGKILL');
}
