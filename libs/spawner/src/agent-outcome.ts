import {
  actorOf,
  isBelayError,
  isHandlerRun,
  SPEC_LIMITS,
  type ActedBy,
  type ExitReport,
  type NodeSpec,
  type StopReport,
} from '#libs/contracts';
import type { AgentOutcome } from '#libs/lifecycle';
import type { AgentReporter } from './agent-reporter';
import type { WorkerLease } from './ports';
import type { StopCause } from './agent-slot';

/** The cause when the guardian killed the tree, which the worker sees only as an exit by SIGKILL. */
export const FENCED: StopCause = {
  reason: 'worker_lost',
  mode: 'immediate',
  by: 'belay',
  endsAs: 'failed',
  error: {
    code: 'FENCED',
    message: 'Its worker had been silent for too long, and the guardian ended its agents.',
  },
};

/** Whether the guardian killed the tree: this worker sent no signal, and was silent so long that the guardian had to. */
export const isFenced = (
  { signal, report }: Pick<ExitReport, 'signal' | 'report'>,
  lease: Pick<WorkerLease, 'wasSilent'> | undefined,
): boolean => report.signals.length === 0 && signal === 'SIGKILL' && lease?.wasSilent === true;

/** The cause when the attempt was not started because the lease may be over. */
export const LEASE_OVER: StopCause = {
  reason: 'worker_lost',
  mode: 'immediate',
  by: 'belay',
  endsAs: 'failed',
  error: { code: 'FENCED', message: 'Its worker had been silent for too long, and did not start it.' },
};

/** The cause when the attempt was not started because its worker closes. */
export const WORKER_CLOSES: StopCause = {
  reason: 'server_shutdown',
  mode: 'immediate',
  by: 'belay',
  endsAs: 'failed',
};

/** The outcome without the agent's own messages, for when they cannot be stored. How the agent ended is kept. */
export function withoutSayings(outcome: AgentOutcome, error: unknown): AgentOutcome {
  const { result: _, costUsd: __, suspend: ___, tokens: ____, costEstimated: _____, ...rest } = outcome;
  if (outcome.state !== 'completed') return rest;
  const why = error instanceof Error ? error.message : String(error);
  return {
    ...rest,
    state: 'failed',
    reason: 'error',
    error: { code: 'OUTCOME_INVALID', message: `Its report could not be stored: ${why.slice(0, 200)}` },
  };
}

type Stopped = Pick<AgentOutcome, 'reason' | keyof ActedBy | 'orderId' | 'error' | 'stop'>;

function stopOf(cause: StopCause): Stopped {
  const { order, local } = cause;
  const type = (order ?? local)?.scope.type;
  const note = (order ?? local)?.note;
  const author = order === undefined ? { actor: cause.by } : actorOf(order);
  return {
    reason: cause.reason,
    ...author,
    ...(cause.error === undefined ? {} : { error: cause.error }),
    ...(order === undefined ? {} : { orderId: order.id }),
    ...(type === 'execution' || type === 'all'
      ? {
          // Without an order of its own, an order is placed for the agents of the execution that run elsewhere.
          stop: {
            ...(order === undefined ? {} : { orderId: order.id }),
            reason: cause.reason,
            ...author,
            ...(note === undefined ? {} : { note }),
          },
        }
      : {}),
  };
}

/** The report of an attempt that never had a process. */
export const NOT_STARTED: StopReport = {
  containment: 'marks',
  proved: true,
  processes: [],
  signals: [],
  evidence: [{ kind: 'not-started', afterMs: 0 }],
  survivors: [],
  escalated: false,
  provedAfterMs: 0,
};

/** The outcome of an attempt that was stopped before it had a process. */
export function notStarted(cause: StopCause): AgentOutcome {
  return { state: cause.endsAs, ...stopOf(cause), report: NOT_STARTED };
}

/**
 * The outcome of an attempt that an order covers whose record cannot be read. It did not start, since the order may be a kill
 * that takes it. It is not killed, since the order may be over: the node's retry policy decides.
 */
export function orderUnread(error: unknown): AgentOutcome {
  const message = `It was not started: ${error instanceof Error ? error.message : String(error)}`;
  return {
    state: 'failed',
    reason: 'error',
    error: { code: 'ORDER_UNREADABLE', message },
    report: NOT_STARTED,
  };
}

/** Whether the attempt was not started because the time for its start was over. */
export const isTooLate = (error: unknown): boolean =>
  isBelayError(error) && error.details['reason'] === 'TOO_LATE';

export function spawnFailed(error: unknown): AgentOutcome {
  const reason = isBelayError(error) ? error.details['reason'] : undefined;
  const code = typeof reason === 'string' ? reason : 'SPAWN_FAILED';
  const message = error instanceof Error ? error.message : String(error);
  const failed = { state: 'failed', reason: 'error', error: { code, message } } as const;
  // A guardian that did not answer may have started a process. Every other refusal of the host leaves none.
  return isBelayError(error) && reason !== 'GUARDIAN' ? { ...failed, report: NOT_STARTED } : failed;
}

/** The outcome when the worker declares no handler of that name. */
export function unknownHandler({ run, pool }: NodeSpec, workerId: string): AgentOutcome {
  const handler = isHandlerRun(run) ? run.handler : '';
  const message = `Worker ${workerId} has no handler ${handler}. Every worker of the pool ${pool} must be an application that declares it.`;
  return {
    state: 'failed',
    reason: 'error',
    error: { code: 'UNKNOWN_HANDLER', message },
    report: NOT_STARTED,
  };
}

/** Interprets the exit. A process that had ended before any signal reached it ended by itself. */
export function outcomeOf(
  cause: StopCause | undefined,
  exit: ExitReport,
  reporter: AgentReporter,
  fenced: boolean,
): AgentOutcome {
  const base = {
    ...(exit.exitCode === null ? {} : { exitCode: exit.exitCode }),
    ...(exit.signal === null ? {} : { signal: exit.signal }),
    ...reporter.spent(),
    report: exit.report,
  };
  if (cause !== undefined && (fenced || exit.report.signals.length > 0))
    return { ...base, state: cause.endsAs, ...stopOf(cause) };
  if (exit.startedTooLate === true)
    return { ...base, state: (cause ?? LEASE_OVER).endsAs, ...stopOf(cause ?? LEASE_OVER) };
  if (exit.startError !== undefined) {
    return {
      ...base,
      state: 'failed',
      reason: 'error',
      error: { code: exit.startErrorCode ?? 'SPAWN_FAILED', message: exit.startError },
    };
  }
  if (exit.exitCode === 0) {
    const { result, suspend } = reporter;
    if (suspend !== undefined) return { ...base, state: 'completed', suspend };
    if (result !== undefined && Buffer.byteLength(JSON.stringify(result)) > SPEC_LIMITS.maxResultBytes) {
      const message = `The result is larger than ${SPEC_LIMITS.maxResultBytes} bytes; store it elsewhere and return a reference.`;
      return { ...base, state: 'failed', reason: 'error', error: { code: 'RESULT_TOO_LARGE', message } };
    }
    return { ...base, state: 'completed', ...(result === undefined ? {} : { result }) };
  }
  const message =
    exit.signal === null ? `Exited with code ${exit.exitCode}.` : `Ended by signal ${exit.signal}.`;
  const error = reporter.error ?? { code: 'EXIT', message };
  return { ...base, state: 'failed', reason: 'error', error };
}
