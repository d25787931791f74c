import { randomBytes } from 'node:crypto';
import { isBelayError } from '#libs/contracts';
import type { AgentIsolation } from './agent-isolation';
import type { RunningAgent } from './agent-process';
import type { Cgroup } from './cgroup';
import { applyLimits, limitNesting, unlimited } from './cgroup-limits';
import { allowedEnvironment, buildEnvironment, isolatedEnvironment } from './environment';
import type { Guardian } from './guardian';
import type { PipePool } from './pipe-pool';
import type { SpawnRequest, UnappliedLimit } from './process-host.types';
import { failure, resolveCommand } from './resolve-command';
import { startDeadline, startProcess, type Input, type StartedProcess } from './start-process';
import type { TimeSliceQueue } from './time-slice-queue';

/** The parts of a host that starts use. */
export interface StartParts {
  /** The worker's own cgroup; its agents' are below it. */
  readonly cgroup: Cgroup | undefined;
  /** Whether each agent gets a PID namespace of its own. */
  readonly namespaced: boolean;
  /** The worker's cookie. */
  readonly cookie: string;
  /** Absent where agents are not isolated. @throws BelayError SPAWN_FAILED, reason ISOLATION */
  readonly prepare: (() => Promise<AgentIsolation>) | undefined;
  readonly guardian: Guardian;
  readonly turns: TimeSliceQueue;
  readonly pipes: PipePool;
  /** Ends the orphans of this host that belong to no tree. Bounded. */
  readonly endOrphans: () => Promise<unknown>;
}

/** The start of an agent, or of a process that waits to become one and reports when it does. */
export type StartRequest = Omit<SpawnRequest, 'stdin'> & {
  readonly stdin: Input;
  readonly onReady?: () => void;
};

/** A first process that was started, with its start's parts. */
export interface AgentStart {
  readonly process: StartedProcess;
  /** The agent's own cookie. */
  readonly cookie: string;
  readonly cgroup: Cgroup | undefined;
  readonly isolated: AgentIsolation | undefined;
  readonly unapplied: readonly UnappliedLimit[];
}

/** Starts the agents of one host: with a user of their own where that is set, in a cgroup where there is one. */
export class AgentStarts {
  readonly #environment = allowedEnvironment(process.env);

  /** @param adopt called in the same turn of the event loop as the start or its report, so no exit can be missed. */
  constructor(
    private readonly parts: StartParts,
    private readonly adopt: (request: StartRequest, start: AgentStart) => RunningAgent,
  ) {}

  /** @throws BelayError SPAWN_FAILED; then no process is left. */
  start(request: StartRequest): Promise<RunningAgent> {
    const { prepare } = this.parts;
    return prepare === undefined ? this.#startWith(request) : this.#startApart(request, prepare);
  }

  /** The preparation took turns of the event loop; the start takes another one. */
  async #startApart(request: StartRequest, prepare: () => Promise<AgentIsolation>): Promise<RunningAgent> {
    const isolated = await prepare();
    try {
      return await this.parts.turns.run(async () => this.#startWith(request, isolated));
    } catch (error) {
      // A start that died with its guardian may still have made a process, so its user stays taken until this worker ends.
      if (!isLostWithGuardian(error)) await isolated.release();
      throw error;
    }
  }

  async #startWith(request: StartRequest, isolated?: AgentIsolation): Promise<RunningAgent> {
    const { guardian, pipes, namespaced } = this.parts;
    const cookie = newCookie();
    const own =
      isolated === undefined ? this.#environment : isolatedEnvironment(this.#environment, isolated.env);
    const env = buildEnvironment(own, request.env, { agent: cookie, worker: this.parts.cookie });
    const command = resolveCommand(request, env);
    const deadline = startDeadline(request);
    const cgroup = this.#makeCgroup(request.agentId);
    try {
      const unapplied = limit(request, cgroup);
      const where = { cgroup, deadline, starts: guardian.starts, isolated, namespaced };
      const started = await startProcess(command, env, request.stdin, where, pipes);
      return this.adopt(request, { process: started, cookie, cgroup, isolated, unapplied });
    } catch (error) {
      // The guardian may have made the process before it died. Once the start has failed, another worker may start the attempt.
      if (isLostWithGuardian(error)) await this.parts.endOrphans();
      cgroup?.remove();
      throw error;
    }
  }

  #makeCgroup(agentId: string): Cgroup | undefined {
    const cgroup = this.parts.cgroup?.child(agentId);
    try {
      if (cgroup === undefined) return undefined;
      if (cgroup.create() || !cgroup.populated()) {
        limitNesting(cgroup);
        return cgroup;
      }
    } catch (error) {
      cgroup?.remove();
      throw failure(
        'CGROUP',
        `The cgroup of agent ${agentId} could not be made.`,
        { cgroup: cgroup?.path },
        error,
      );
    }
    throw failure('DUPLICATE', `The cgroup of agent ${agentId} has running processes already.`, {
      cgroup: cgroup.path,
    });
  }
}

const isLostWithGuardian = (error: unknown): boolean =>
  isBelayError(error) && error.details['reason'] === 'GUARDIAN';

function limit({ limits }: StartRequest, cgroup: Cgroup | undefined): UnappliedLimit[] {
  if (limits === undefined) return [];
  return cgroup === undefined ? unlimited(limits) : applyLimits(cgroup, limits);
}

/** 128 random bits, for a worker or an agent. */
export function newCookie(): string {
  return randomBytes(16).toString('hex');
}
