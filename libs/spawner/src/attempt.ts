import {
  BelayError,
  isBelayError,
  type AgentMessage,
  type Dropped,
  type ExitReport,
  type StopReport,
} from '#libs/contracts';
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
  isFenced,
  isTooLate,
  LEASE_OVER,
  notStarted,
  orderUnread,
  outcomeOf,
  spawnFailed,
  WORKER_CLOSES,
  unknownHandler,
} from './agent-outcome';
import { AgentReporter } from './agent-reporter';
import type { Granted, RunnerOptions } from './agent-runner.types';
import type { AgentSlot, StopCause } from './agent-slot';
import type { AgentSlots } from './agent-slots';
import type { OutcomeKeeper } from './outcome-keeper';
import { PausableTimer } from './pausable-timer';
import type { AgentProcess, ProcessHost } from './process';
import type { RunnerPorts } from './runner-ports';
import { ServerLog } from './server-log';
import { commandOf, graceOf, leaseLeftMs, logFileOf, spawnRequest } from './spawn-request';
import { untilAnswered } from './until-answered';
import type { WaitingPool } from './waiting-pool';

/** The parts of one worker that all its attempts share. */
export interface AttemptMeans {
  readonly lifecycle: LifecycleService;
  readonly host: ProcessHost;
  readonly waiting: WaitingPool;
  readonly options: RunnerOptions;
  readonly ports: Pick<RunnerPorts, 'gate' | 'lease' | 'door' | 'trace'>;
  readonly keeper: OutcomeKeeper;
  /** Informed of every message, of every end, and before that of an end that is not proved yet. */
  readonly slots: Pick<AgentSlots, 'hasSaid' | 'hasEnded'>;
  readonly onDropped: (what: keyof Dropped, count: number) => void;
}

/**
 * One claimed attempt: its input is gathered, its process is started and announced, and the end of its tree is stored.
 * - Nothing waits for the server between the last check of the lease and of a stop, and the start.
 * - The start is stored before the end is.
 * - `killed` is stored only once the tree was seen dead.
 */
export class Attempt {
  constructor(
    private readonly means: AttemptMeans,
    private readonly slot: AgentSlot,
    private readonly claim: Granted,
  ) {}

  /** Resolves when the outcome is stored. */
  async run(): Promise<void> {
    const { slot, claim } = this;
    const { lifecycle, host, options } = this.means;
    slot.granted(claim);
    // Before the checks that follow: between the last of them and the start nothing may wait for the server.
    const earlierEvents = await this.earlierEvents();
    const { trace } = this.means.ports;
    const traceVariables = trace === undefined ? undefined : await trace.variables(claim.fence);
    const isOff = (): boolean => slot.cause !== undefined;
    const gather = async (): Promise<AgentInput> =>
      gatherInput(lifecycle, host, slot.job, claim, earlierEvents, isOff);
    const input = await prepareInput(
      async () => untilAnswered(options, slot.agentId, gather, isOff),
      (error) => this.onError(error),
    );
    try {
      await this.runWith(input, traceVariables);
    } finally {
      if (input?.ready !== undefined) await closeInput(input.ready);
    }
  }

  /** Events of earlier attempts (docs/agents.md#input). If the server does not answer, the attempt starts without them. */
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

  private async runWith(
    input: PreparedInput | undefined,
    traceVariables: Readonly<Record<string, string>> | undefined,
  ): Promise<void> {
    const { slot, claim } = this;
    const { options, ports } = this.means;
    let wasFrozen: boolean;
    do {
      const unread = await this.askOrders();
      if (unread !== undefined) return this.store(unread);
      wasFrozen = slot.frozen;
      await slot.thawed();
      // A freeze may last for hours, and an order that came meanwhile may have no answer yet.
    } while (wasFrozen && slot.cause === undefined);
    await slot.maySpawn();
    // This process may have been suspended between the claim and its answer, or during a freeze, and another worker may have
    // the node.
    if (leaseLeftMs(ports) <= 0) slot.stop(LEASE_OVER, 0);
    if (slot.cause !== undefined) return this.store(notStarted(slot.cause));
    if (input?.ready === undefined) return this.store(inputFailed(input?.error));
    const run = commandOf(options, claim.node.run);
    if (run === undefined) return this.store(unknownHandler(claim.node, options.workerId));
    const reporter = this.makeReporter();
    const log = this.makeLog(reporter);
    let process: AgentProcess;
    try {
      const onMessage = (message: AgentMessage): void => this.means.slots.hasSaid({ message, claim });
      const parts = { run, input: input.ready, log, reporter, onMessage, traceVariables };
      const request = spawnRequest(this.means, slot, claim, parts);
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

  /**
   * Asks whether an open order covers the attempt. The attempt does not start before there is an answer: the worker asks until
   * then, unless the attempt is stopped, the lease may be over, or the worker closes. Resolves with the attempt's end where the
   * server answers that it cannot tell.
   */
  private async askOrders(): Promise<AgentOutcome | undefined> {
    const { slot, claim } = this;
    const { options, ports } = this.means;
    const isOver = (): boolean => leaseLeftMs(ports) <= 0;
    const ask = async (): Promise<true> => {
      await ports.gate?.beforeSpawn(slot, claim);
      return true;
    };
    try {
      const answered = await untilAnswered(
        options,
        slot.agentId,
        ask,
        () => slot.cause !== undefined || isOver(),
      );
      if (answered === undefined) slot.stop(isOver() ? LEASE_OVER : WORKER_CLOSES, 0);
    } catch (error) {
      this.onError(error);
      // An order that was read has stopped it.
      if (slot.cause === undefined) return orderUnread(error);
    }
    return undefined;
  }

  /** From the start of the process until the outcome is stored. */
  private async untilStored(process: AgentProcess, log: ServerLog, reporter: AgentReporter): Promise<void> {
    const { slot } = this;
    try {
      const announced = this.announce(process);
      const exit = await process.ended;
      slot.hasEnded();
      // A stop that arrives from here on, while the end cannot be stored yet, did not cause the end.
      const { cause: endedBy } = slot;
      // The server refuses an end before its start. However long the server is away, they are stored in this order.
      await announced;
      // Sent before the outcome. Nobody waits until the log is stored.
      const logged = log.close(process.lostBytes);
      await reporter.close();
      await this.conclude(process, exit, endedBy, reporter);
      await logged;
      // If the server was away before, it is back now.
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

  /** spawning → running. If the state says that a stop has begun meanwhile, the new process is stopped. */
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
      // Refused: another worker owns this attempt now, so it must not go on here.
      if (isBelayError(error))
        slot.stop({ reason: 'worker_lost', mode: 'immediate', by: 'belay', endsAs: 'failed' }, 0);
      this.onError(error);
    }
  }

  /** A timeout that stands still while the tree is frozen. */
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

  /**
   * Stores the end. `killed` is stored only once the tree was seen dead; until then the receipt says `unconfirmed`
   * (docs/proof-of-stop.md).
   */
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
    const fenced = isFenced({ ...exit, report }, this.means.ports.lease);
    const cause = fenced ? FENCED : endedBy;
    await this.store(outcomeOf(cause, { ...exit, report }, reporter, fenced), startOf(process));
  }

  private async store(outcome: AgentOutcome, start?: StartedProcess): Promise<void> {
    // Both are sent without waiting in between: the record is written first, and the receipt costs no further round trip.
    const stored = this.means.keeper.store(this.claim, outcome, start);
    this.tell(outcome, true, outcome.report);
    await stored;
  }

  private tell(outcome: AgentOutcome | undefined, confirmed: boolean, report: StopReport | undefined): void {
    const { slot, claim } = this;
    this.means.slots.hasEnded({
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
