import type { Assignment, EvidenceKind, ExitReport, SeenProcess, StopReport } from '#libs/contracts';
import type { AgentOutput } from './agent-output';
import { beingStopped } from './being-stopped';
import { TreeEnding, type EndTreeOptions } from './end-tree';
import type { FirstProcess } from './first-process';
import type {
  AgentProcess,
  Containment,
  Isolation,
  ProcessIdentity,
  AssignRequest,
  StopOptions,
  UnappliedLimit,
} from './process-host.types';
import type { ProcessTree } from './process-tree';
import type { TimeSliceQueue } from './time-slice-queue';

/** The parts of the host that an agent uses. */
export interface AgentSetting {
  readonly isolation: Isolation;
  readonly killWaitMs: number;
  readonly drainMs: number;
  /** Shared by all agents of the host. */
  readonly turns: TimeSliceQueue;
  /** The tree was proved dead by this evidence: the host forgets the agent and tells the guardian. Called once. */
  readonly onProved: (evidence: readonly EvidenceKind[]) => void;
}

/** One agent from its start to the proof of its end. AgentProcess has the guarantees. */
export class RunningAgent implements AgentProcess {
  readonly containment: Containment;
  readonly ended: Promise<ExitReport>;
  readonly confirmed: Promise<StopReport>;
  #ending: TreeEnding | undefined;
  #exit: { readonly code: number | null; readonly signal: NodeJS.Signals | null } | undefined;
  #resolveEnded!: (report: ExitReport) => void;
  #resolveConfirmed!: (report: StopReport) => void;

  constructor(
    private id: string,
    readonly identity: ProcessIdentity,
    readonly unappliedLimits: readonly UnappliedLimit[],
    first: FirstProcess,
    private readonly tree: ProcessTree,
    private readonly output: AgentOutput,
    private graceMs: number,
    private readonly setting: AgentSetting,
  ) {
    this.containment = tree.containment;
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.confirmed = new Promise((resolve) => (this.#resolveConfirmed = resolve));
    first.onExit((code, signal) => this.#onExit(code, signal));
  }

  get agentId(): string {
    return this.id;
  }

  /** Makes a process that waited this agent's; its tree stays the same. @param deadline ticks since boot */
  assign(request: AssignRequest, deadline: number | undefined): void {
    const { agentId, graceMs, args, env, stdin } = request;
    this.id = agentId;
    this.graceMs = graceMs;
    const assignment: Assignment = { args, env, ...(deadline === undefined ? {} : { deadline }) };
    this.output.assign(request, `${JSON.stringify(assignment)}\n${stdin}`);
  }

  get badLines(): number {
    return this.output.badLines;
  }

  get lostBytes(): number {
    return this.output.lostBytes;
  }

  stop({ mode, graceMs }: StopOptions): Promise<ExitReport> {
    if (this.#ending === undefined) this.#end({ cause: mode, graceMs });
    else this.#ending.shorten(mode === 'immediate' ? 0 : graceMs);
    return this.ended;
  }

  async freeze(): Promise<void> {
    try {
      if (this.#ending === undefined) await this.tree.freeze();
    } finally {
      // A stop that began meanwhile has thawed the tree already: it must not stay frozen.
      if (this.#ending !== undefined) this.tree.thaw();
    }
    // The processes run for their grace: after a stop, and also leftovers of the first process.
    if (this.#ending !== undefined) throw beingStopped(this.id);
  }

  async thaw(): Promise<void> {
    this.tree.thaw();
  }

  processes(): SeenProcess[] {
    return this.tree.processes();
  }

  /** Ends the rounds in the background; `confirmed` resolves with the present report. */
  abandon(): void {
    this.#ending?.close();
  }

  #onExit(code: number | null, signal: NodeJS.Signals | null): void {
    this.#exit = { code, signal };
    this.tree.markReaped(signal);
    if (this.#ending === undefined) this.#end({ cause: 'natural', graceMs: this.graceMs });
    else this.#ending.firstProcessExited();
  }

  #end(options: Pick<EndTreeOptions, 'cause' | 'graceMs'>): void {
    const ending = new TreeEnding(
      this.tree,
      { ...options, killWaitMs: this.setting.killWaitMs, isolation: this.setting.isolation },
      this.setting.turns,
    );
    this.#ending = ending;
    if (this.#exit !== undefined) ending.firstProcessExited();
    void this.#finish(ending);
  }

  async #finish(ending: TreeEnding): Promise<void> {
    let proved = await ending.run();
    if (proved) await this.#settle(ending);
    await this.output.finish(this.setting.drainMs);
    this.#resolveEnded(this.#report(ending));
    if (!proved) {
      proved = await ending.keepTrying();
      if (proved) await this.#settle(ending);
    }
    this.#resolveConfirmed(this.#report(ending).report);
  }

  /** Before `ended` resolves, so that then nothing of the agent is left on the machine. */
  async #settle({ record }: TreeEnding): Promise<void> {
    // If that fails, the host removes the worker's cgroup with all below it when it closes.
    await this.setting.turns.run(() => this.tree.dispose()).catch(() => false);
    this.setting.onProved(record.kinds());
  }

  #report(ending: TreeEnding): ExitReport {
    const startError = this.output.startError(this.#exit?.code ?? null);
    return {
      exitCode: this.#exit?.code ?? null,
      signal: this.#exit?.signal ?? null,
      leftovers: ending.leftovers,
      ...(startError === undefined ? {} : { startError: startError.message }),
      ...(startError?.code === undefined ? {} : { startErrorCode: startError.code }),
      ...(startError?.isTooLate === true ? { startedTooLate: true } : {}),
      report: ending.record.report(this.#survivors()),
    };
  }

  #survivors(): SeenProcess[] {
    try {
      return this.tree.processes();
    } catch {
      return [];
    }
  }
}
