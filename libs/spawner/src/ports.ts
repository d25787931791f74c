import type { Fence } from '#libs/lifecycle';
import type { Granted } from './agent-runner.types';
import type { AgentSlot } from './agent-slot';

/**
 * The ports of the runner, each its own injection token. The worker implements them (libs/worker); whoever runs attempts without
 * a worker may leave them out.
 */

/** The gate before a start. */
export abstract class StartGate {
  /**
   * Asked for each claim before its start, because an open order may cover the attempt. It must bound itself, and be repeatable:
   * it is asked again while it rejects with OUTCOME_UNKNOWN. After any other rejection the attempt ends unstarted.
   */
  abstract beforeSpawn(slot: AgentSlot, claim: Granted): Promise<void> | undefined;
}

/** The right of this worker to its agents. Without it the right never ends. */
export abstract class WorkerLease {
  /** Milliseconds for which the right is certain; at 0 or less the lease may be over. */
  abstract readonly leftMs: number;
  /** Whether this worker was silent so long lately that its guardian may have killed its trees. */
  abstract readonly wasSilent: boolean;
}

/** The place of an attempt in a trace. Without it no agent gets `TRACEPARENT`. */
export abstract class TraceCarrier {
  /** The variables for the agent; none where the server does not answer. Never rejects. */
  abstract variables(fence: Fence): Promise<Readonly<Record<string, string>>>;
}

/** The way by which an agent reaches its worker. */
export abstract class AgentDoor {
  /** Admits one attempt; returns the variables with which it finds the worker. */
  abstract admit(fence: Fence): Readonly<Record<string, string>>;
}
