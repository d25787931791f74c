import type { AgentAddress, AgentJob, Order, RecordedError, StopReason } from '#libs/contracts';
import type { AgentProcess } from './process';

/** Why and how an agent is being stopped. */
export interface StopCause {
  readonly reason: StopReason;
  readonly mode: 'graceful' | 'immediate';
  readonly graceMs?: number;
  /** Present when an order asked for it. */
  readonly order?: Order;
  readonly by: string;
  /** `failed` leaves the node to its retry policy (timeout, drain, lost contact); `killed` does not. */
  readonly endsAs: 'killed' | 'failed';
  readonly error?: RecordedError;
}

/**
 * One attempt a worker is busy with, known from before its claim: an order that arrives while the claim or the spawn
 * is under way finds it here, so nothing slips between them (R8). Tracked by identity, not by key (R43).
 */
export class AgentSlot implements AgentAddress {
  readonly agentId: string;
  readonly executionId: string;
  cause: StopCause | undefined;
  process: AgentProcess | undefined;
  /** When the claim was granted, Valkey's clock; undefined while it is under way. */
  claimedAt: number | undefined;
  private ended = false;

  constructor(
    readonly job: AgentJob,
    readonly workerId: string,
  ) {
    this.agentId = job.agentId;
    this.executionId = job.executionId;
  }

  /**
   * Stops it now, or as soon as there is something to stop. The first cause is kept, save that an order outranks a
   * timeout or a drain; a later one can only hasten.
   */
  stop(cause: StopCause, defaultGraceMs: number): void {
    if (this.ended) return;
    if (this.cause === undefined || (cause.order !== undefined && this.cause.order === undefined))
      this.cause = cause;
    void this.process?.stop({
      mode: cause.mode,
      graceMs: cause.graceMs ?? this.cause.graceMs ?? defaultGraceMs,
    });
  }

  close(): void {
    this.ended = true;
  }
}
