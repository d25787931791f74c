import type { AgentAddress, AgentJob, Order, RecordedError, Scope, StopReason } from '#libs/contracts';
import type { Fence } from '#libs/lifecycle';
import type { PausableTimer } from './pausable-timer';
import type { AgentProcess } from './process';

/** Why and how an agent is being stopped. */
export interface StopCause {
  readonly reason: StopReason;
  readonly mode: 'graceful' | 'immediate';
  readonly graceMs?: number;
  /** Present when an order asked for it. */
  readonly order?: Order;
  /** Present when a person asked on this machine, without the server: no order of the log is behind it. */
  readonly local?: { readonly scope: Scope; readonly note?: string };
  readonly by: string;
  /** `failed` leaves the node to its retry policy (timeout, drain, lost contact); `killed` does not. */
  readonly endsAs: 'killed' | 'failed';
  readonly error?: RecordedError;
}

/** An order this worker has begun to carry out on one agent. */
export interface ServedOrder {
  readonly order: Order;
  /** Milliseconds. */
  readonly afterMs: number;
}

/** The facts of an agent that its claim gives. */
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
 * One attempt a worker is busy with, known from before its claim: an order that arrives while the claim or the spawn
 * is under way finds it here, so nothing slips between them (requirement R8). Tracked by identity, not by key (requirement R43).
 */
export class AgentSlot implements AgentAddress {
  readonly agentId: string;
  readonly executionId: string;
  /** The node, as the job names it. */
  readonly nodeId: string;
  pool: string | undefined;
  labels: Readonly<Record<string, string>> | undefined;
  fence: Fence | undefined;
  /** The node's own, else the execution's; known from the claim on. Milliseconds. */
  graceMs: number | undefined;
  cause: StopCause | undefined;
  process: AgentProcess | undefined;
  /** When the claim was granted, Valkey's clock; undefined while it is under way. */
  claimedAt: number | undefined;
  /** Its number among all that has begun in its shard; known from the claim on. */
  born: number | undefined;
  /** Orders served on it, by id, with how long after their placing that began. */
  readonly served = new Map<string, ServedOrder>();
  /** Orders that keep the tree still, by what they froze; it goes on when the last is taken off. */
  private readonly heldBy = new Set<string>();
  /** Its process, or undefined once it is sure that there never is one. */
  readonly begun: Promise<AgentProcess | undefined>;
  /** Resolves when the worker is done with this attempt: its tree is dead, and its outcome is stored or was refused. */
  readonly closed: Promise<void>;
  private timeout: PausableTimer | undefined;
  private ended = false;
  /** From here on a process may come into being at any moment. */
  private spawning = false;
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

  holds(hold: string): boolean {
    return this.heldBy.has(hold);
  }

  /** Resolves when nothing holds it back: a frozen attempt is not started, and a stopped one need not wait. */
  async maySpawn(): Promise<void> {
    while (this.frozen && this.cause === undefined) await new Promise<void>((open) => this.gate.push(open));
    this.spawning = true;
  }

  granted({ fence, claimedAt, born, pool, labels, graceMs, node }: GrantedClaim): void {
    this.graceMs = node.graceMs ?? graceMs;
    this.fence = fence;
    this.claimedAt = claimedAt;
    this.born = born;
    this.pool = pool;
    this.labels = labels;
  }

  /** The tree runs; one frozen while it was spawned is frozen now. `timeout` is the node's. */
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
   * Stops the tree where it stands, and its timeout with it. Resolves when it was seen still, or is sure not to start
   * while the hold is on. @throws TIMEOUT
   */
  async freeze(hold: string): Promise<void> {
    this.heldBy.add(hold);
    this.timeout?.pause();
    const process = this.process ?? (this.spawning ? await this.begun : undefined);
    // Thawed while it was being started: then it runs, as it should.
    if (this.frozen) await process?.freeze();
  }

  async thaw(hold: string): Promise<void> {
    const held = this.heldBy.delete(hold);
    if (!held || this.frozen) return;
    this.openGate();
    await this.process?.thaw();
    this.timeout?.resume();
  }

  /**
   * Stops it now, or as soon as there is something to stop. The first cause is kept, save that a person's order
   * outranks a timeout or a drain; a later one can only hasten.
   */
  stop(cause: StopCause, defaultGraceMs: number): void {
    if (this.ended) return;
    if (this.cause === undefined || (isAsked(cause) && !isAsked(this.cause))) this.cause = cause;
    // Checked before every start: a caller that waits for a process need not wait for the claim's answer.
    if (!this.spawning) this.begin(undefined);
    this.openGate();
    void this.process?.stop({
      mode: cause.mode,
      // A person who asks again without a grace asks for the node's: a long one of before holds nobody up.
      graceMs:
        cause.graceMs ?? (isAsked(cause) ? undefined : this.cause.graceMs) ?? this.graceMs ?? defaultGraceMs,
    });
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

/** By a person or by an order, which no retry policy undoes. */
const isAsked = ({ order, local }: StopCause): boolean => order !== undefined || local !== undefined;
