import { join, resolve } from 'node:path';
import { isHandlerRun, type AgentMessage, type CommandRun, type NodeRun } from '#libs/contracts';
import type { AgentInput } from './agent-input';
import type { AgentReporter } from './agent-reporter';
import type { Granted, RunnerOptions } from './agent-runner.types';
import type { AgentSlot } from './agent-slot';
import type { SpawnRequest } from './process';
import type { RunnerPorts } from './runner-ports';
import type { ServerLog } from './server-log';

/** The path of an agent's log, on the worker's own disk. */
export function logFileOf({ logDir }: Pick<RunnerOptions, 'logDir'>, { agentId }: AgentSlot): string {
  return join(logDir, `${agentId}.log`);
}

/** The node's grace, else the execution's, else the worker's. Milliseconds. */
export function graceOf(
  { node, graceMs }: Granted,
  { graceMs: own }: Pick<RunnerOptions, 'graceMs'>,
): number {
  return node.graceMs ?? graceMs ?? own;
}

/** How long this worker's right to its agents is certain. Milliseconds. */
export function leaseLeftMs({ lease }: Pick<RunnerPorts, 'lease'>): number {
  return lease?.leftMs ?? Number.POSITIVE_INFINITY;
}

/** The command of a node: its own, or the program of its handler. Undefined: this worker does not have that handler. */
export function commandOf(
  { handlerProgram }: Pick<RunnerOptions, 'handlerProgram'>,
  run: NodeRun,
): CommandRun | undefined {
  if (!isHandlerRun(run)) return run;
  const program = handlerProgram?.(run.handler);
  return program === undefined ? undefined : { ...program, shell: false };
}

interface SpawnMeans {
  readonly options: RunnerOptions;
  readonly ports: Pick<RunnerPorts, 'lease' | 'door'>;
}

interface SpawnParts {
  readonly run: CommandRun;
  readonly input: AgentInput;
  readonly log: ServerLog;
  readonly reporter: AgentReporter;
  readonly onMessage: (message: AgentMessage) => void;
  readonly traceVariables: Readonly<Record<string, string>> | undefined;
}

/**
 * The request to the host for the process of a claimed attempt: the node's command, with the attempt's identity in its
 * environment.
 */
export function spawnRequest(
  { options, ports }: SpawnMeans,
  slot: AgentSlot,
  claim: Granted,
  { run, input, log, reporter, onMessage, traceVariables }: SpawnParts,
): SpawnRequest {
  const { node, fence } = claim;
  return {
    agentId: slot.agentId,
    command: run.command,
    shell: run.shell,
    cwd: resolve(options.workDir, run.cwd ?? '.'),
    env: {
      // Before the spec's own: a spec that sets TRACEPARENT keeps its value.
      ...traceVariables,
      ...run.env,
      BELAY_EXECUTION_ID: slot.executionId,
      BELAY_NODE_ID: node.id,
      BELAY_AGENT_ID: slot.agentId,
      BELAY_ATTEMPT: String(slot.job.attempt),
      BELAY_EPOCH: String(fence.epoch),
      BELAY_WORKER_ID: options.workerId,
      ...ports.door?.admit(fence),
    },
    stdin: input,
    graceMs: graceOf(claim, options),
    // The start may wait for its turn: an attempt that was stopped meanwhile need not start either.
    startWithin: () => (slot.cause === undefined ? leaseLeftMs(ports) : 0),
    ...(node.limits === undefined ? {} : { limits: node.limits }),
    onOutput: (piece) => log.write(piece),
    onMessage: (message, bytes) => {
      reporter.take(message, bytes);
      onMessage(message);
    },
    onBadLine: () => reporter.countBadLine(),
    logFile: logFileOf(options, slot),
  };
}
