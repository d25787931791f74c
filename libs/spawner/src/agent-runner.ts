import { randomUUID } from 'node:crypto';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  BelayError,
  isBelayError,
  type AgentJob,
  type JobAnswer,
  type AgentMessage,
  type Dropped,
  type ExitReport,
  type StopReport,
} from '#libs/contracts';
import {
  saidBefore,
  type AgentOutcome,
  type Claim,
  type StartedProcess,
  type LifecycleService,
  type SaidEvent,
} from '#libs/lifecycle';
import { Subject, type Observable } from 'rxjs';
import {
  FENCED,
  isTooLate,
  LEASE_OVER,
  NOT_STARTED,
  notStarted,
  outcomeOf,
  spawnFailed,
  withoutSayings,
} from './agent-outcome';
import { closeInput, gatherInput, inputFailed, prepareInput } from './agent-input';
import type { AgentInput, PreparedInput } from './agent-input';
import type { AgentEnded, Granted, HoldResult, RunnerOptions } from './agent-runner.types';
import { AgentSlot, type StopCause } from './agent-slot';
import { AgentReporter } from './agent-reporter';
import { PausableTimer } from './pausable-timer';
import type { AgentProcess, ProcessHost } from './process';
import { ServerLog } from './server-log';

/** Runs attempts: claim, spawn, report, end. One per worker process. */
export class AgentRunner {
  private readonly slots = new Set<AgentSlot>();
  private readonly ends = new Subject<AgentEnded>();
  private idle: (() => void)[] = [];

  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly host: ProcessHost,
    private readonly options: RunnerOptions,
  ) {}

  /** Claims a latch refused. */
  refused = 0;

  /** Agents' output beyond their bounds, counted since the start. */
  readonly dropped: { -readonly [K in keyof Dropped]: Dropped[K] } = {};

  /** Attempts under way, from before their claim until their outcome is stored. */
  get busy(): number {
    return this.slots.size;
  }

  /** Every end, proved or not; the killswitch writes receipts from it. */
  get ended$(): Observable<AgentEnded> {
    return this.ends;
  }

  agentIds(): string[] {
    return [...this.slots].map((slot) => slot.agentId);
  }

  /** Stops every attempt the predicate holds for; returns how many. Begins at once, reads nothing. */
  stopWhere(matches: (slot: AgentSlot) => boolean, cause: StopCause): number {
    let count = 0;
    for (const slot of this.slots) {
      if (!matches(slot)) continue;
      slot.stop(cause, this.options.graceMs);
      count++;
    }
    return count;
  }

  slotsWhere(matches: (slot: AgentSlot) => boolean): AgentSlot[] {
    return [...this.slots].filter(matches);
  }

  /** Freezes every attempt the predicate holds for; each answer comes when its tree was seen still. */
  freezeWhere(matches: (slot: AgentSlot) => boolean, hold: string): Promise<HoldResult>[] {
    return [...this.slots].filter(matches).map(async (slot) => this.settleHold(slot, slot.freeze(hold)));
  }

  /** Takes one hold off every attempt the predicate holds for; a tree goes on when none is left. */
  thawWhere(matches: (slot: AgentSlot) => boolean, hold: string): Promise<HoldResult>[] {
    return [...this.slots].filter(matches).map(async (slot) => this.settleHold(slot, slot.thaw(hold)));
  }

  private async settleHold(slot: AgentSlot, done: Promise<void>): Promise<HoldResult> {
    try {
      await done;
      const { fence } = slot;
      if (fence !== undefined) await this.lifecycle.agents.markFrozen(fence, slot.frozen);
      return { slot, frozen: slot.frozen };
    } catch (error) {
      return {
        slot,
        frozen: slot.frozen,
        error: error instanceof Error ? error : new Error(String(error)),
      };
    }
  }

  /** Resolves when nothing is under way. */
  async whenIdle(): Promise<void> {
    if (this.slots.size > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  /**
   * One job: claims it or lets it be. Resolves when its outcome is stored. `refused`: another worker may take it, and this one
   * may not (a latch over this worker, its lease is over, it drains and heard nothing).
   */
  async run(job: AgentJob): Promise<JobAnswer> {
    const slot = new AgentSlot(job, this.options.workerId);
    this.slots.add(slot);
    try {
      const claim = await this.claimOnce(slot, job);
      if (claim === undefined) return 'refused';
      if (claim.claimed) await this.attempt(slot, claim);
      // It was ours and was lost before we heard of it: only we know that nothing was started (R51).
      else if (claim.why === 'ENDED')
        await this.untilAnswered(slot, async () =>
          this.lifecycle.agents.prove(job.agentId, this.options.workerId, NOT_STARTED),
        );
      else if (claim.why === 'LATCHED') {
        this.refused++;
        return claim.latch?.scope.type === 'worker' ? 'refused' : 'parked';
      } else if (claim.why === 'GONE') return 'refused';
      return claim.claimed || claim.state !== 'paused' ? 'done' : 'parked';
    } catch (error) {
      this.options.onError?.(error, job.agentId);
      throw error;
    } finally {
      slot.close();
      this.slots.delete(slot);
      if (this.slots.size === 0) for (const resolve of this.idle.splice(0)) resolve();
    }
  }

  /**
   * A failover that loses a claim lets this worker have it again while its first copy still runs. The first copy is ended
   * before the second starts: of one attempt there is one live copy (R26). Its end may have become the attempt's, so the
   * claim is asked for again.
   */
  private async claimOnce(slot: AgentSlot, job: AgentJob): Promise<Claim | undefined> {
    const token = randomUUID();
    const claim = await this.claimPatiently(slot, job, token);
    const copies = this.slotsWhere(
      ({ agentId, claimedAt }) => agentId === slot.agentId && claimedAt !== undefined,
    );
    if (claim?.claimed !== true || copies.length === 0) return claim;
    for (const copy of copies)
      copy.stop({ reason: 'worker_lost', mode: 'immediate', by: 'belay', endsAs: 'failed' }, 0);
    await Promise.all(copies.map(async ({ closed }) => closed));
    return this.claimPatiently(slot, job, token);
  }

  /**
   * A claim whose answer was lost may have been granted: given up, its agent would be nobody's. The same token gets the
   * same claim, so it is asked for until there is an answer. Undefined: draining, or closing, before there was one.
   */
  private async claimPatiently(slot: AgentSlot, job: AgentJob, token: string): Promise<Claim | undefined> {
    return this.untilAnswered(
      slot,
      async () => this.lifecycle.agents.claim(job, this.options.workerId, token),
      () => slot.cause?.reason === 'server_shutdown',
    );
  }

  /** Asks again while the outcome is unknown. Undefined: `isOff`, or this worker gives up waiting. */
  private async untilAnswered<T>(
    slot: AgentSlot,
    ask: () => Promise<T>,
    isOff: () => boolean = () => false,
  ): Promise<T | undefined> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!isBelayError(error) || error.code !== 'OUTCOME_UNKNOWN') throw error;
        this.options.onError?.(error, slot.agentId);
        if (isOff() || this.options.closing?.aborted === true) return undefined;
      }
    }
  }

  private async attempt(slot: AgentSlot, claim: Granted): Promise<void> {
    slot.granted(claim);
    // Before the looks that follow: between the last of them and the start nothing may wait for the server.
    const earlierEvents = await this.earlierEvents(slot, claim.node.id);
    const isOff = (): boolean => slot.cause !== undefined;
    const gather = async () => gatherInput(this.lifecycle, this.host, slot.job, claim, earlierEvents, isOff);
    const input = await prepareInput(
      async () => this.untilAnswered(slot, gather, isOff),
      (error) => this.options.onError?.(error, slot.agentId),
    );
    try {
      await this.runWith(slot, claim, input);
    } finally {
      if (input?.ready !== undefined) await closeInput(input.ready);
    }
  }

  private async runWith(slot: AgentSlot, claim: Granted, input: PreparedInput | undefined): Promise<void> {
    const asked = this.options.beforeSpawn?.(slot, claim);
    if (asked !== undefined)
      await asked.catch((error: unknown) => this.options.onError?.(error, slot.agentId));
    await slot.maySpawn();
    // Stopped between the claim and its answer, or while it was held, we may wake when another worker has the node.
    if (this.leaseLeftMs() <= 0) slot.stop(LEASE_OVER, 0);
    if (slot.cause !== undefined) return this.store(slot, claim, notStarted(slot.cause));
    if (input?.ready === undefined) return this.store(slot, claim, inputFailed(input?.error));
    const reporter = new AgentReporter(
      this.lifecycle.agents,
      claim.fence,
      (error) => this.options.onError?.(error, slot.agentId),
      (what, count) => (this.dropped[what] = (this.dropped[what] ?? 0) + count),
    );
    const log = new ServerLog(this.lifecycle.logs, {
      executionId: slot.executionId,
      agentId: slot.agentId,
      workerId: this.options.workerId,
      path: this.logFile(slot),
      onDropped: (lines, bytes) => reporter.drop({ lines, bytes }),
    });
    let process: AgentProcess;
    try {
      process = await this.spawn(slot, claim, input.ready, log, reporter);
    } catch (error) {
      await log.close(0);
      const outcome = isTooLate(error) ? notStarted(slot.cause ?? LEASE_OVER) : spawnFailed(error);
      return this.store(slot, claim, outcome);
    }
    slot.hasProcess(process, this.deadline(slot, claim));
    const cause = slot.cause as StopCause | undefined;
    if (cause !== undefined) slot.stop(cause, graceOf(claim, this.options.graceMs));
    try {
      const announced = this.announce(slot, claim, process);
      const exit = await process.ended;
      slot.hasEnded();
      // A stop that arrives from here on, while the end cannot be stored yet, did not cause it.
      const { cause: endedBy } = slot;
      // An end is refused before its start: however long the server is away, they are stored in this order (R43).
      await announced;
      // Sent before the outcome; nobody waits for the log to be stored.
      const logged = log.close(process.lostBytes);
      await reporter.close();
      await this.conclude(slot, claim, process, { exit, cause: endedBy }, reporter);
      await logged;
      // The server is there now, if it was away before.
      await log.close(process.lostBytes);
    } finally {
      slot.hasEnded();
    }
  }

  private leaseLeftMs(): number {
    return this.options.leaseLeftMs?.() ?? Number.POSITIVE_INFINITY;
  }

  private async spawn(
    slot: AgentSlot,
    claim: Granted,
    input: AgentInput,
    log: ServerLog,
    reporter: AgentReporter,
  ): Promise<AgentProcess> {
    const { node, fence } = claim;
    return this.host.spawn({
      agentId: slot.agentId,
      command: node.run.command,
      shell: node.run.shell,
      cwd: resolve(this.options.workDir, node.run.cwd ?? '.'),
      env: {
        ...node.run.env,
        BELAY_EXECUTION_ID: slot.executionId,
        BELAY_NODE_ID: node.id,
        BELAY_AGENT_ID: slot.agentId,
        BELAY_ATTEMPT: String(slot.job.attempt),
        BELAY_EPOCH: String(fence.epoch),
        BELAY_WORKER_ID: this.options.workerId,
      },
      stdin: input,
      graceMs: graceOf(claim, this.options.graceMs),
      // It may wait for its turn to be forked: what was stopped meanwhile need not start either.
      startWithin: () => (slot.cause === undefined ? this.leaseLeftMs() : 0),
      ...(node.limits === undefined ? {} : { limits: node.limits }),
      onOutput: (piece) => log.write(piece),
      onMessage: (message: AgentMessage, bytes) => reporter.take(message, bytes),
      onBadLine: () => reporter.countBadLine(),
      logFile: this.logFile(slot),
    });
  }

  private logFile({ agentId }: AgentSlot): string {
    return join(this.options.logDir, `${agentId}.log`);
  }

  /** Events of earlier attempts (R28). Where the server does not answer it is started without. */
  private async earlierEvents(
    { job, executionId }: AgentSlot,
    nodeId: string,
  ): Promise<readonly SaidEvent[]> {
    if (job.attempt === 1) return [];
    return saidBefore(this.lifecycle.valkey, executionId, nodeId).catch((error: unknown) => {
      this.options.onError?.(error, job.agentId);
      return [];
    });
  }

  /** spawning → running. When the state says that a stop began meanwhile, what was just spawned is stopped. */
  private async announce(slot: AgentSlot, claim: Granted, process: AgentProcess): Promise<void> {
    try {
      const { stopping, reason } =
        (await this.untilAnswered(slot, async () =>
          this.lifecycle.agents.started(claim.fence, startOf(process)),
        )) ?? {};
      if (stopping === true && slot.cause === undefined) {
        slot.stop(
          { reason: reason ?? 'killswitch', mode: 'graceful', by: 'belay', endsAs: 'killed' },
          graceOf(claim, this.options.graceMs),
        );
      }
    } catch (error) {
      // Refused: someone else owns this attempt now. It must not run on here.
      if (isBelayError(error))
        slot.stop({ reason: 'worker_lost', mode: 'immediate', by: 'belay', endsAs: 'failed' }, 0);
      this.options.onError?.(error, slot.agentId);
    }
  }

  /** A frozen tree's timeout stands still with it. */
  private deadline(slot: AgentSlot, claim: Granted): PausableTimer | undefined {
    const { timeoutMs, id } = claim.node;
    if (timeoutMs === undefined) return undefined;
    return new PausableTimer(timeoutMs, () =>
      slot.stop(
        {
          reason: 'timeout',
          mode: 'graceful',
          by: 'belay',
          endsAs: 'failed',
          error: { code: 'TIMEOUT', message: `Node ${id} ran longer than its timeoutMs of ${timeoutMs}.` },
        },
        graceOf(claim, this.options.graceMs),
      ),
    );
  }

  /** `killed` is stored only once the tree was seen dead; until then the receipt says `unconfirmed` (R51). */
  private async conclude(
    slot: AgentSlot,
    claim: Granted,
    process: AgentProcess,
    { exit, cause: endedBy }: { exit: ExitReport; cause: StopCause | undefined },
    reporter: AgentReporter,
  ): Promise<void> {
    let report = exit.report;
    if (!report.proved) {
      this.emit(slot, claim, undefined, false, report);
      report = await process.confirmed;
      if (!report.proved)
        throw new BelayError(
          'TIMEOUT',
          `The tree of ${slot.agentId} could not be proved dead before the worker closed.`,
        );
    }
    const fenced =
      report.signals.length === 0 && exit.signal === 'SIGKILL' && this.options.wasSilent?.() === true;
    const cause = fenced ? FENCED : endedBy;
    const outcome = outcomeOf(cause, { ...exit, report }, reporter, fenced);
    await this.store(slot, claim, outcome, startOf(process));
  }

  private async store(
    slot: AgentSlot,
    claim: Granted,
    outcome: AgentOutcome,
    start?: StartedProcess,
  ): Promise<void> {
    // Sent one behind the other without waiting: the record is written first, and the receipt costs no round trip more.
    const stored = this.finishPatiently(claim, outcome, start);
    this.emit(slot, claim, outcome, true, outcome.report);
    await stored;
  }

  /**
   * The outcome is kept and stored again later whatever the trouble: the server away or full, a fault. Only a refusal, or
   * our own end, gives it up. An outcome that cannot be stored as it is (a result no JSON can carry) is stored without
   * its messages.
   */
  private async finishPatiently(
    claim: Granted,
    outcome: AgentOutcome,
    start: StartedProcess | undefined,
  ): Promise<void> {
    const { agentId } = claim.fence;
    let sent = outcome;
    for (let attempt = 0; ; attempt++) {
      try {
        const { repeated } = await this.options.finish(claim.fence, sent, claim.node, start);
        // The same end was stored before: by us, or by a janitor that took our lease and had no proof.
        if (repeated === true) await this.proveLate(claim, outcome);
        return;
      } catch (error) {
        this.options.onError?.(error, agentId);
        if (isRefusal(error)) return this.proveLate(claim, outcome, error);
        if (this.options.closing?.aborted) throw error;
        if (attempt >= TRIES_WHOLE && !isBelayError(error)) sent = withoutSayings(outcome, error);
        await pause(Math.min(100 * 2 ** attempt, LONGEST_PAUSE_MS), this.options.closing);
      }
    }
  }

  /** Someone else has ended this attempt already, without proof: what we saw is the proof. */
  private async proveLate({ fence }: Granted, { report }: AgentOutcome, refusal?: unknown): Promise<void> {
    if (report?.proved === true) await this.lifecycle.agents.prove(fence.agentId, fence.owner, report);
    else if (refusal !== undefined) throw refusal;
  }

  private emit(
    slot: AgentSlot,
    claim: Granted,
    outcome: AgentOutcome | undefined,
    confirmed: boolean,
    report: StopReport | undefined,
  ): void {
    this.ends.next({
      slot,
      fence: claim.fence,
      executionId: slot.executionId,
      nodeId: claim.node.id,
      outcome,
      order: slot.cause?.order,
      confirmed,
      report,
    });
  }
}

const startOf = ({ identity, containment }: AgentProcess): StartedProcess => ({
  pid: identity.pid,
  pidStartTime: identity.startTime,
  containment,
});

const TRIES_WHOLE = 3;
const LONGEST_PAUSE_MS = 5_000;

/**
 * The server has answered, and the answer is no: this attempt is no longer ours to write, or its record cannot be read
 * (R31). Its receipts have been told; a slot must not wait for a person.
 */
const REFUSALS = ['STALE_EPOCH', 'INVALID_TRANSITION', 'NOT_FOUND', 'CORRUPT_RECORD'];
const isRefusal = (error: unknown): boolean => isBelayError(error) && REFUSALS.includes(error.code);

/** Ends early when the worker gives up. */
async function pause(ms: number, closing: AbortSignal | undefined): Promise<void> {
  await delay(ms, undefined, closing === undefined ? {} : { signal: closing }).catch(() => undefined);
}

function graceOf(claim: Granted, fallback: number): number {
  return claim.node.graceMs ?? claim.graceMs ?? fallback;
}
