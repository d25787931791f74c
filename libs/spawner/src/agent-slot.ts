import type { AgentAddress, AgentJob, Order, RecordedError, Scope, StopReason } from '#libs/contracts';
import type { Fence } from '#libs/lifecycle';
import type { PausableTimer } from './pausable-timer';
import { beingStopped, type AgentProcess } from './process';

/** Why and how an agent is being stopped. */
export interface StopCause {
  readonly reason: StopReason;
  readonly mode: 'graceful' | 'immediate';
  readonly graceMs?: number;
  /** Present when an order asked for the stop. */
  readonly order?: Order;
  /** Present when a person on this machine asked, without the server: there is no order in the log. */
  readonly local?: { readonly scope: Scope; readonly note?: string };
  readonly by: string;
  /** `failed` leaves the node to its retry policy (timeout, drain, lost contact); `killed` does not. */
  readonly endsAs: 'killed' | 'failed';
  readonly error?: RecordedError;
}

/** An order that this worker has begun to carry out on one agent. */
export interface ServedOrder {
  readonly order: Order;
  /** Milliseconds. */
  readonly afterMs: number;
}

/** The facts about an agent that its claim brings. */
export interface GrantedClaim {
  readonly fence: Fence;
  readonly claimedAt: number;
  readonly born: number;
  readonly pool: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly graceMs?: number;
  readonly node: { readonly graceMs?: number };
}

/**
 * One attempt of a worker, in the runner from before its claim. An order that arrives while the claim or the spawn is under way
 * finds the slot, so no attempt slips past an order. A slot is tracked by identity, not by key.
 */
export class AgentSlot implements AgentAddress {
  readonly agentId: string;
  readonly executionId: string;
  /** The node that the job names. */
  readonly nodeId: string;
  pool: string | undefined;
  labels: Readonly<Record<string, string>> | undefined;
  fence: Fence | undefined;
  /** The node's own grace, else the execution's; known from the claim on. Milliseconds. */
  graceMs: number | undefined;
  cause: StopCause | undefined;
  process: AgentProcess | undefined;
  /** When the claim was granted, by the server's clock; undefined while the claim is under way. */
  claimedAt: number | undefined;
  /** The claim may have been granted: no answer came, or one came after other processes had ended the attempt or the lease. */
  answeredTooLate = false;
  /** The attempt's place in the count of all attempts that have begun in its shard (ADR 0015); known from the claim on. */
  born: number | undefined;
  /** Orders served on the agent, by id, with the time from their placing to that moment. */
  readonly served = new Map<string, ServedOrder>();
  /** The freezes that keep the tree still. The tree goes on when the last of them ends. */
  private readonly heldBy = new Set<string>();
  /** The processes were seen stopped during a freeze, and nothing has let them go on since. */
  private still = false;
  /** Settles when the agent's record has the earlier news of freezes and thaws. */
  private telling: Promise<unknown> = Promise.resolve();
  /** The process, or undefined once it is certain that there will be none. */
  readonly begun: Promise<AgentProcess | undefined>;
  /** Resolves when the worker is done with the attempt: the tree is dead, and the outcome is stored or was refused. */
  readonly closed: Promise<void>;
  private timeout: PausableTimer | undefined;
  private ended = false;
  /** Once true, a process may exist at any moment. */
  private spawning = false;
  /** Acts that wait for the claim. */
  private readonly onGrant: (() => void)[] = [];
  /** Starts that wait for a thaw or a stop. */
  private gate: (() => void)[] = [];
  private begin: (process: AgentProcess | undefined) => void = () => undefined;
  private finish: () => void = () => undefined;

  constructor(
    readonly job: AgentJob,
    readonly workerId: string,
  ) {
    this.agentId = job.agentId;
    this.executionId = job.executionId;
    this.nodeId = job.nodeId;
    this.begun = new Promise((resolve) => {
      this.begin = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.finish = resolve;
    });
  }

  get frozen(): boolean {
    return this.heldBy.size > 0;
  }

  /** Whether the processes were seen stopped during a freeze, or cannot start, and nothing has let them go on since. */
  get isStill(): boolean {
    return this.still;
  }

  holds(hold: string): boolean {
    return this.heldBy.has(hold);
  }

  /** Resolves when the attempt may start or end: a frozen one is not started, and a stopped one need not wait. */
  async maySpawn(): Promise<void> {
    await this.thawed();
    this.spawning = true;
  }

  /** Resolves when no freeze holds the attempt, or it is stopped. */
  async thawed(): Promise<void> {
    while (this.frozen && this.cause === undefined) await new Promise<void>((open) => this.gate.push(open));
  }

  granted({ fence, claimedAt, born, pool, labels, graceMs, node }: GrantedClaim): void {
    this.graceMs = node.graceMs ?? graceMs;
    this.fence = fence;
    this.claimedAt = claimedAt;
    this.born = born;
    this.pool = pool;
    this.labels = labels;
    for (const act of this.onGrant.splice(0)) act();
  }

  /** Runs `act` when the worker gets the claim of this attempt, before it begins anything of the attempt. */
  whenGranted(act: () => void): void {
    this.onGrant.push(act);
  }

  /** The tree runs. If the agent was frozen during the spawn, it is frozen now. `timeout` is the node's. */
  hasProcess(process: AgentProcess, timeout: PausableTimer | undefined): void {
    this.process = process;
    this.begin(process);
    this.timeout = timeout;
    if (!this.frozen) return;
    timeout?.pause();
    void process.freeze().catch(() => undefined);
  }

  hasEnded(): void {
    this.timeout?.stop();
  }

  /**
   * Freezes the tree, and its timeout with it. Resolves when the processes were seen stopped, or when it is certain that none
   * starts during the freeze. @throws BelayError TIMEOUT · INVALID_TRANSITION while a stop of the tree is under way
   */
  async freeze(hold: string): Promise<void> {
    this.heldBy.add(hold);
    this.timeout?.pause();
    const process = this.process ?? (this.spawning ? await this.begun : undefined);
    // If the agent was thawed during its start, it runs.
    if (!this.frozen) return;
    if (this.cause === undefined) await process?.freeze();
    // A stop lets the tree run for its grace.
    if (this.cause !== undefined) throw beingStopped(this.agentId);
    this.still = this.frozen;
  }

  async thaw(hold: string): Promise<void> {
    const held = this.heldBy.delete(hold);
    if (!held || this.frozen) return;
    this.still = false;
    this.openGate();
    await this.process?.thaw();
    // A freeze may have begun meanwhile: a worker reads the thaw and a later freeze from the log in one turn.
    if (!this.frozen) this.timeout?.resume();
  }

  /**
   * Stops the agent now, or as soon as it has a process. The first cause is kept, except that a person's order outranks a
   * timeout or a drain. A later cause can only shorten the grace.
   */
  stop(cause: StopCause, defaultGraceMs: number): void {
    if (this.ended) return;
    this.still = false;
    if (this.cause === undefined || (isAsked(cause) && !isAsked(this.cause))) this.cause = cause;
    // Every start checks for a stop, so a caller that waits for a process need not wait for the claim's answer.
    if (!this.spawning) this.begin(undefined);
    this.openGate();
    void this.process?.stop({
      mode: cause.mode,
      // A person who asks again without a grace gets the nodes' grace: a longer grace of the first request delays nobody.
      graceMs:
        cause.graceMs ?? (isAsked(cause) ? undefined : this.cause.graceMs) ?? this.graceMs ?? defaultGraceMs,
    });
  }

  /** Runs calls that store whether the tree is frozen one after the other, so that the last one is true. */
  async tell<T>(act: () => Promise<T>): Promise<T> {
    const told = this.telling.then(act);
    this.telling = told.catch(() => undefined);
    return told;
  }

  private openGate(): void {
    for (const open of this.gate.splice(0)) open();
  }

  close(): void {
    this.ended = true;
    this.begin(undefined);
    this.finish();
  }
}

/** A stop by a person or an order: no retry policy undoes it. */
const isAsked = ({ order, local }: StopCause): boolean => order !== undefined || local !== undefined;
