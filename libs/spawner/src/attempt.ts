import { BelayError, isBelayError, type Dropped, type ExitReport, type StopReport } from '#libs/contracts';
import {
  previousAttemptEvents,
  type AgentOutcome,
  type LifecycleService,
  type AttemptEvent,
  type StartedProcess,
} from '#libs/lifecycle';
import { closeInput, gatherInput, inputFailed, prepareInput } from './agent-input';
import type { AgentInput, PreparedInput } from './agent-input';
import {
  FENCED,
  isTooLate,
  LEASE_OVER,
  notStarted,
  outcomeOf,
  spawnFailed,
  unknownHandler,
} from './agent-outcome';
import { AgentReporter } from './agent-reporter';
import type { AgentEnded, Granted, RunnerOptions } from './agent-runner.types';
import type { AgentSlot, StopCause } from './agent-slot';
import type { OutcomeKeeper } from './outcome-keeper';
import { PausableTimer } from './pausable-timer';
import type { AgentProcess, ProcessHost } from './process';
import { ServerLog } from './server-log';
import { commandOf, graceOf, leaseLeftMs, logFileOf, spawnRequest } from './spawn-request';
import { untilAnswered } from './until-answered';
import type { WaitingPool } from './waiting-pool';

/** One worker's means, shared by all its attempts. */
export interface AttemptMeans {
  readonly lifecycle: LifecycleService;
  readonly host: ProcessHost;
  readonly waiting: WaitingPool;
  readonly options: RunnerOptions;
  readonly keeper: OutcomeKeeper;
  /** Told of every end, and before that of one that is not proved yet. */
  readonly onEnded: (ended: AgentEnded) => void;
  readonly onDropped: (what: keyof Dropped, count: number) => void;
}

/**
 * One claimed attempt: its input is gathered, its process is started and told of, and the end of its tree is stored.
 * - Between the last look at the lease and at a stop, and the start, nothing waits for the server.
 * - Its start is told before its end is stored (requirement R43).
 * - `killed` is stored only once the tree was seen dead (requirement R51).
 */
export class Attempt {
  constructor(
    private readonly means: AttemptMeans,
    private readonly slot: AgentSlot,
    private readonly claim: Granted,
  ) {}

  /** Resolves when its outcome is stored. */
  async run(): Promise<void> {
    const { slot, claim } = this;
    const { lifecycle, host, options } = this.means;
    slot.granted(claim);
    // Before the looks that follow: between the last of them and the start nothing may wait for the server.
    const earlierEvents = await this.earlierEvents();
    const isOff = (): boolean => slot.cause !== undefined;
    const gather = async (): Promise<AgentInput> =>
      gatherInput(lifecycle, host, slot.job, claim, earlierEvents, isOff);
    const input = await prepareInput(
      async () => untilAnswered(options, slot.agentId, gather, isOff),
      (error) => this.onError(error),
    );
    try {
      await this.runWith(input);
    } finally {
      if (input?.ready !== undefined) await closeInput(input.ready);
    }
  }

  /** Events of earlier attempts (requirement R28). Where the server does not answer it is started without. */
  private async earlierEvents(): Promise<readonly AttemptEvent[]> {
    const { job, executionId } = this.slot;
    if (job.attempt === 1) return [];
    return previousAttemptEvents(this.means.lifecycle.valkey, executionId, this.claim.node.id).catch(
      (error: unknown) => {
        this.onError(error);
        return [];
      },
    );
  }

  private async runWith(input: PreparedInput | undefined): Promise<void> {
    const { slot, claim } = this;
    const { options } = this.means;
    const asked = options.beforeSpawn?.(slot, claim);
    if (asked !== undefined) await asked.catch((error: unknown) => this.onError(error));
    await slot.maySpawn();
    // Stopped between the claim and its answer, or while it was held, we may wake when another worker has the node.
    if (leaseLeftMs(options) <= 0) slot.stop(LEASE_OVER, 0);
    if (slot.cause !== undefined) return this.store(notStarted(slot.cause));
    if (input?.ready === undefined) return this.store(inputFailed(input?.error));
    const run = commandOf(options, claim.node.run);
    if (run === undefined) return this.store(unknownHandler(claim.node, options.workerId));
    const reporter = this.makeReporter();
    const log = this.makeLog(reporter);
    let process: AgentProcess;
    try {
      const parts = { run, input: input.ready, log, reporter };
      const request = spawnRequest(options, slot, claim, parts);
      process = this.means.waiting.take(request) ?? (await this.means.host.spawn(request));
    } catch (error) {
      await log.close(0);
      return this.store(isTooLate(error) ? notStarted(slot.cause ?? LEASE_OVER) : spawnFailed(error));
    }
    slot.hasProcess(process, this.deadline());
    const cause = slot.cause as StopCause | undefined;
    if (cause !== undefined) slot.stop(cause, this.graceMs);
    await this.untilStored(process, log, reporter);
  }

  /** From its start until its outcome is stored. */
  private async untilStored(process: AgentProcess, log: ServerLog, reporter: AgentReporter): Promise<void> {
    const { slot } = this;
    try {
      const announced = this.announce(process);
      const exit = await process.ended;
      slot.hasEnded();
      // A stop that arrives from here on, while the end cannot be stored yet, did not cause it.
      const { cause: endedBy } = slot;
      // An end is refused before its start: however long the server is away, they are stored in this order (requirement R43).
      await announced;
      // Sent before the outcome; nobody waits for the log to be stored.
      const logged = log.close(process.lostBytes);
      await reporter.close();
      await this.conclude(process, exit, endedBy, reporter);
      await logged;
      // The server is there now, if it was away before.
      await log.close(process.lostBytes);
    } finally {
      slot.hasEnded();
    }
  }

  private makeReporter(): AgentReporter {
    return new AgentReporter(
      this.means.lifecycle.agents,
      this.claim.fence,
      (error) => this.onError(error),
      this.means.onDropped,
    );
  }

  private makeLog(reporter: AgentReporter): ServerLog {
    const { slot } = this;
    const { lifecycle, options } = this.means;
    return new ServerLog(lifecycle.logs, {
      executionId: slot.executionId,
      agentId: slot.agentId,
      workerId: options.workerId,
      path: logFileOf(options, slot),
      onDropped: (lines, bytes) => reporter.drop({ lines, bytes }),
    });
  }

  /** spawning → running. When the state says that a stop began meanwhile, what was just spawned is stopped. */
  private async announce(process: AgentProcess): Promise<void> {
    const { slot, claim } = this;
    const { lifecycle, options } = this.means;
    try {
      const { stopping, reason } =
        (await untilAnswered(options, slot.agentId, async () =>
          lifecycle.agents.started(claim.fence, startOf(process)),
        )) ?? {};
      if (stopping === true && slot.cause === undefined) {
        slot.stop(
          { reason: reason ?? 'killswitch', mode: 'graceful', by: 'belay', endsAs: 'killed' },
          this.graceMs,
        );
      }
    } catch (error) {
      // Refused: someone else owns this attempt now. It must not run on here.
      if (isBelayError(error))
        slot.stop({ reason: 'worker_lost', mode: 'immediate', by: 'belay', endsAs: 'failed' }, 0);
      this.onError(error);
    }
  }

  /** A frozen tree's timeout stands still with it. */
  private deadline(): PausableTimer | undefined {
    const { timeoutMs, id } = this.claim.node;
    if (timeoutMs === undefined) return undefined;
    const message = `Node ${id} ran longer than its timeoutMs of ${timeoutMs}.`;
    return new PausableTimer(timeoutMs, () =>
      this.slot.stop(
        {
          reason: 'timeout',
          mode: 'graceful',
          by: 'belay',
          endsAs: 'failed',
          error: { code: 'TIMEOUT', message },
        },
        this.graceMs,
      ),
    );
  }

  /** `killed` is stored only once the tree was seen dead; until then the receipt says `unconfirmed` (requirement R51). */
  private async conclude(
    process: AgentProcess,
    exit: ExitReport,
    endedBy: StopCause | undefined,
    reporter: AgentReporter,
  ): Promise<void> {
    let report = exit.report;
    if (!report.proved) {
      this.tell(undefined, false, report);
      report = await process.confirmed;
      if (!report.proved)
        throw new BelayError(
          'TIMEOUT',
          `The tree of ${this.slot.agentId} could not be proved dead before the worker closed.`,
        );
    }
    const { wasSilent } = this.means.options;
    const fenced = report.signals.length === 0 && exit.signal === 'SIGKILL' && wasSilent?.() === true;
    const cause = fenced ? FENCED : endedBy;
    await this.store(outcomeOf(cause, { ...exit, report }, reporter, fenced), startOf(process));
  }

  private async store(outcome: AgentOutcome, start?: StartedProcess): Promise<void> {
    // Sent one behind the other without waiting: the record is written first, and the receipt costs no round trip more.
    const stored = this.means.keeper.store(this.claim, outcome, start);
    this.tell(outcome, true, outcome.report);
    await stored;
  }

  private tell(outcome: AgentOutcome | undefined, confirmed: boolean, report: StopReport | undefined): void {
    const { slot, claim } = this;
    this.means.onEnded({
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

  private get graceMs(): number {
    return graceOf(this.claim, this.means.options);
  }

  private onError(error: unknown): void {
    this.means.options.onError?.(error, this.slot.agentId);
  }
}

const startOf = ({ identity, containment }: AgentProcess): StartedProcess => ({
  pid: identity.pid,
  pidStartTime: identity.startTime,
  containment,
});
