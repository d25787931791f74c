import {
  BelayError,
  EXECUTION_MACHINE,
  isEnded,
  type AgentRecord,
  type ExecutionRecord,
} from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';

export interface WaitOptions {
  readonly timeoutMs: number;
}

/** The record of an execution once it has ended. @throws BelayError TIMEOUT · NotFoundError */
export function waitForEnd(
  lifecycle: LifecycleService,
  changes: ChangeFeed,
  executionId: string,
  { timeoutMs }: WaitOptions,
): Promise<ExecutionRecord> {
  const look = async (): Promise<ExecutionRecord | undefined> => {
    const record = await lifecycle.executions.get(executionId);
    return isEnded(EXECUTION_MACHINE, record.state) ? record : undefined;
  };
  return changes.until(look, (event) => event.executionId === executionId, {
    timeoutMs,
    what: `The end of ${executionId}`,
  });
}

/** An agent of an execution, once one runs. @throws BelayError TIMEOUT · NOT_FOUND, also once it has ended */
export function waitForAgent(
  lifecycle: LifecycleService,
  changes: ChangeFeed,
  executionId: string,
  { timeoutMs }: WaitOptions,
): Promise<AgentRecord> {
  const look = async (): Promise<AgentRecord | undefined> => {
    const [agent] = await lifecycle.agents.list({ executionId, states: ['running'] });
    if (agent !== undefined) return agent;
    const { state } = await lifecycle.executions.get(executionId);
    if (!isEnded(EXECUTION_MACHINE, state)) return undefined;
    throw new BelayError('NOT_FOUND', `${executionId} is ${state}: none of its agents runs.`);
  };
  return changes.until(look, (event) => event.executionId === executionId, {
    timeoutMs,
    what: `An agent of ${executionId}`,
  });
}
