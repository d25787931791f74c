import { readFileSync } from 'node:fs';
import { isBelayError } from '#libs/contracts';
import { cannotBeHad } from './isolation';
import { readStat } from './proc-stat';
import type { AgentProcess, ProcessHost, StopOptions } from './process-host.types';

/** An agent that does nothing must report within this. Milliseconds. */
const ANSWER_MS = 10_000;
const AT_ONCE: StopOptions = { mode: 'immediate', graceMs: 0 };

/**
 * Starts one agent as all will be started, checks its state in the kernel, and ends it. Rights, programs, mounts and the
 * content of /proc decide together whether an isolation works, and no list of them would be complete.
 * @throws BelayError INVALID_SETTINGS
 */
export async function tryIsolation(host: ProcessHost): Promise<void> {
  let agent: AgentProcess | undefined;
  try {
    let begun: () => void = () => undefined;
    const isBegun = new Promise<void>((resolve) => (begun = resolve));
    agent = await host.spawn({
      agentId: 'isolation-trial',
      command: ['/bin/sh', '-c', 'echo begun; exec sleep 60'],
      shell: false,
      env: {},
      cwd: '/',
      stdin: '',
      graceMs: 0,
      onOutput: () => begun(),
      onMessage: () => undefined,
    });
    const timer = setTimeout(() => void agent?.stop(AT_ONCE), ANSWER_MS);
    await Promise.race([isBegun, agent.ended]);
    clearTimeout(timer);
    const problem = problemOf(commandOf(agent));
    const { startError, report } = await agent.stop(AT_ONCE);
    if (startError !== undefined) throw refused(host, startError);
    if (problem !== undefined) throw refused(host, problem);
    if (!report.evidence.some(({ kind }) => kind === 'uid-empty'))
      throw refused(host, 'the end of its processes cannot be seen');
  } catch (error) {
    await agent?.stop(AT_ONCE);
    if (isBelayError(error) && error.code === 'INVALID_SETTINGS') throw error;
    throw refused(host, error instanceof Error ? error.message : String(error), error);
  }
}

function refused({ isolation }: ProcessHost, reason: string, cause?: unknown): Error {
  return cannotBeHad(
    isolation,
    `a trial agent failed: ${reason.replace(/\.$/, '')}`,
    'Meet the requirements of docs/isolation.md',
    cause,
  );
}

/** The process that runs the command. In a PID namespace the first process is outside, with the namespace's init in its session. */
function commandOf(agent: AgentProcess): number {
  const { containment, identity } = agent;
  if (containment !== 'namespace') return identity.pid;
  const inside = agent.processes().find(({ pid }) => readStat(pid)?.session !== identity.pid);
  return inside?.pid ?? identity.pid;
}

/** A problem in the kernel's view of a process that should have a user of its own and no rights. */
function problemOf(pid: number): string | undefined {
  const status = readStatus(pid);
  const line = (name: string): string =>
    new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(status)?.[1] ?? '';
  const ids = [...line('Uid').split('\t'), ...line('Gid').split('\t')];
  if (new Set(ids).size !== 1 || Number(ids[0]) === process.geteuid?.())
    return `its ids are ${ids.join(' ')}`;
  if (line('Groups') !== '') return `it has the groups ${line('Groups')}`;
  if (line('NoNewPrivs') !== '1') return 'it may gain privileges';
  const capabilities = ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].filter((name) => !/^0+$/.test(line(name)));
  return capabilities.length === 0 ? undefined : `it has capabilities (${capabilities.join(', ')})`;
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
}
