import { isBelayError } from '#libs/contracts';
import { cannotBeHad } from './containment';
import type { AgentProcess, ProcessHost } from './process-host.types';

/** An agent that does nothing must report within this. Milliseconds. */
const ANSWER_MS = 10_000;
/** The command has this long to act on SIGTERM. */
const GRACE_MS = 5_000;
const OWN_CODE = 7;
const ADVICE = 'Meet the requirements of docs/isolation.md';

/**
 * Starts one agent as all will be started, asks it to end, and looks at its exit code and evidence. Kernel, seccomp filters, mounts
 * of /proc and the programs' versions decide together whether a namespace can be made and passes on signals and codes.
 * @throws BelayError INVALID_SETTINGS
 */
export async function tryNamespace(host: ProcessHost): Promise<void> {
  let agent: AgentProcess | undefined;
  let said = '';
  try {
    let begun: () => void = () => undefined;
    const isBegun = new Promise<void>((resolve) => (begun = resolve));
    agent = await host.spawn({
      agentId: 'namespace-trial',
      command: ['/bin/sh', '-c', `trap 'exit ${OWN_CODE}' TERM; echo begun; while :; do sleep 0.02; done`],
      shell: false,
      env: {},
      cwd: '/',
      stdin: '',
      graceMs: 0,
      onOutput: ({ stream, bytes }) => {
        if (stream === 'stdout') begun();
        else said ||= bytes.toString();
      },
      onMessage: () => undefined,
    });
    const timer = setTimeout(() => void agent?.stop({ mode: 'immediate', graceMs: 0 }), ANSWER_MS);
    await Promise.race([isBegun, agent.ended]);
    clearTimeout(timer);
    const { exitCode, startError, report } = await agent.stop({ mode: 'graceful', graceMs: GRACE_MS });
    if (startError !== undefined) throw refused(said === '' ? startError : `${startError} (${said})`);
    if (exitCode !== OWN_CODE) throw refused(`it ended with ${exitCode ?? 'a signal'}, not ${OWN_CODE}`);
    if (!report.evidence.some(({ kind }) => kind === 'namespace-ended'))
      throw refused('the end of its namespace cannot be seen');
  } catch (error) {
    await agent?.stop({ mode: 'immediate', graceMs: 0 });
    if (isBelayError(error) && error.code === 'INVALID_SETTINGS') throw error;
    throw refused(error instanceof Error ? error.message : String(error), error);
  }
}

function refused(reason: string, cause?: unknown): Error {
  return cannotBeHad('namespace', `a trial agent failed: ${reason.replace(/\.$/, '')}`, ADVICE, cause);
}
