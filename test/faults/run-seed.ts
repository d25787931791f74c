import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { ExecutionRecord } from '#libs/contracts';
import { Asker, receiptFacts, unlessGone, type Submitted } from './asker';
import { check, type Violation } from './check';
import { atMost, pause, uptime, wallOffset } from './clock';
import { executionFacts, readLines, waitsFor, workerFacts } from './gather';
import { isEndless, workOf } from './draw-executions';
import { hitsServer } from './draw-steps';
import { Ground } from './ground';
import { hasFault } from './plan';
import { identity, type History, type UnfinishedFacts } from './history';
import { breakGlass } from './local-ask';
import type { FaultKind, Plan, PlannedExecution, Step } from './plan-types';
import { carrying, killIdentity, lives, livingAgents } from './processes';
import { Producer } from './producer';
import { Readiness } from './readiness';
import { specOf } from './spec-of';

const LIVE = ['idle', 'running', 'paused', 'stopping'] as const;
/** The time for the answers to requests of the chaos. */
const ANSWERS_WITHIN_MS = 15_000;
const ENDED_WITHIN_MS = 25_000;
/** A job that met a latch looks again after up to 4 s, or 8 s when it met it three times. */
const KNOWN_WITHIN_MS = 12_000;
const READABLE_WITHIN_MS = 10_000;
const LOOK_MS = 50;
/** A tree that was killed may take this long to leave /proc after the fleet has stopped. */
const GONE_WITHIN_MS = 2_000;

/** The deadline of a drill's canaries, which ends them when the drill's orchestrator dies. */
const DRILL_MS = 60_000;

/** One moment of a seed, for the reader of a failure. */
export interface Moment {
  /** Seconds from the start of the chaos. */
  readonly at: number;
  readonly what: string;
}

export interface SeedResult {
  readonly seed: number;
  readonly seconds: number;
  readonly violations: readonly Violation[];
  readonly timeline: readonly Moment[];
  readonly injected: readonly FaultKind[];
  readonly skipped: Ground['skipped'];
  readonly plan: Plan;
  readonly history: History | undefined;
  /** The folder with the logs of a failed seed's processes. */
  readonly logs?: string;
}

/** Runs one plan on a fleet of its own and checks the history. Leaves nothing behind, whatever happens. */
export async function runSeed(plan: Plan, signal: AbortSignal, keep = false): Promise<SeedResult> {
  const startedAt = performance.now();
  const run = new SeedRun(plan, signal);
  let violations: Violation[];
  try {
    violations = await run.run();
  } catch (error) {
    violations = [
      { rule: 'ran', what: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    ];
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  return {
    seed: plan.seed,
    seconds,
    violations,
    timeline: run.timeline,
    injected: run.injected,
    skipped: run.skipped,
    plan,
    history: run.history,
    ...((keep || violations.length > 0) && !signal.aborted ? { logs: run.keepLogs() } : {}),
  };
}

/** The actors of a seed. */
interface All {
  readonly ground: Ground;
  readonly asker: Asker;
  readonly producer: Producer;
  readonly readiness: Readiness;
}

class SeedRun {
  readonly timeline: Moment[] = [];
  history: History | undefined;
  #ground: Ground | undefined;
  #drilled: readonly string[] = [];
  #zero = uptime();
  readonly #mark = `faults-${process.pid}-${randomBytes(8).toString('hex')}`;
  readonly #records = mkdtempSync(join(tmpdir(), 'belay-faults-'));
  readonly #late = monitorEventLoopDelay({ resolution: 20 });

  constructor(
    private readonly plan: Plan,
    private readonly signal: AbortSignal,
  ) {}

  get injected(): readonly FaultKind[] {
    return this.#ground?.injected ?? [];
  }

  get skipped(): Ground['skipped'] {
    return this.#ground?.skipped ?? [];
  }

  async run(): Promise<Violation[]> {
    const exit = (): void => {
      this.#ground?.killAll();
      for (const folder of [this.#records, this.#ground?.fleet.dir])
        if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    };
    process.on('exit', exit);
    try {
      const ground = (this.#ground = await Ground.open(this.plan, this.#mark));
      const asker = new Asker(() => ground.clients(), this.plan.seed);
      const producer = new Producer(ground.fleet.life.valkey.connections, ground.queuePrefix, this.#mark);
      const all = { ground, asker, producer, readiness: new Readiness(asker) };
      let history: Omit<History, 'aliveAfter'> | undefined;
      try {
        this.#late.enable();
        await this.#chaos(all);
        if (!this.signal.aborted) history = await this.#settle(all);
      } finally {
        this.#late.disable();
        await producer.close();
        await this.#close(ground);
      }
      const aliveAfter = await this.#sweep();
      if (history === undefined) return [];
      this.history = { ...history, lines: readLines(this.#records), aliveAfter };
      return check(this.history);
    } finally {
      for (const left of carrying(this.#mark)) killIdentity(left);
      rmSync(this.#records, { recursive: true, force: true });
      process.off('exit', exit);
    }
  }

  keepLogs(): string {
    const folder = mkdtempSync(join(tmpdir(), `belay-faults-seed-${this.plan.seed}-`));
    const { fleet } = this.#ground ?? {};
    for (const [i, member] of [...(fleet?.orchestrators ?? []), ...(fleet?.workers ?? [])].entries())
      writeFileSync(join(folder, `${i}-${member.id}.log`), member.log());
    writeFileSync(join(folder, 'history.json'), JSON.stringify(this.history ?? {}, undefined, 1));
    return folder;
  }

  /** The plan, step by step; no step waits for the end of another. */
  async #chaos(everyone: All): Promise<void> {
    const { ground } = everyone;
    this.#zero = uptime();
    const begunAt = performance.now();
    const faults: Promise<void>[] = [];
    const asked: Promise<unknown>[] = [];
    for (const step of this.plan.steps) {
      await pause(begunAt + step.atMs - performance.now(), this.signal);
      if (this.signal.aborted) break;
      this.#note(describeStep(step));
      if (step.do === 'fault') {
        const over = ground.inflict(step, this.signal);
        faults.push(over.then(() => this.#note(`over: ${step.kind} ${step.place}`)));
      } else if (step.do === 'submit') asked.push(this.#submit(everyone, step.execution));
      else asked.push(this.#give(everyone, step));
    }
    await pause(begunAt + this.plan.profile.chaosMs - performance.now(), this.signal);
    const all = async (work: Promise<unknown>[]): Promise<unknown> => {
      const results = await Promise.allSettled(work);
      const failed = results.find((result) => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      return true;
    };
    await all(faults);
    await ground.heal();
    this.#note('healed');
    if ((await atMost(ANSWERS_WITHIN_MS, all(asked))) === undefined && !this.signal.aborted)
      throw new Error(`an order was not answered within ${ANSWERS_WITHIN_MS} ms of the healing`);
  }

  async #submit({ asker, producer }: All, index: number): Promise<void> {
    const planned = this.plan.executions[index] as PlannedExecution;
    const spec = specOf(planned, this.#records, this.#mark);
    if (planned.byQueue) {
      const entry: Submitted = {};
      asker.submitted.set(index, entry);
      await producer.submit(planned.name, spec, entry);
    } else await asker.submit(index, planned, { ...spec, idempotencyKey: `${this.#mark}-${planned.name}` });
    const { id, refused }: Submitted = asker.submitted.get(index) ?? {};
    this.#note(`submitted ${planned.name}: ${id ?? refused}`);
  }

  async #give({ ground, asker, readiness }: All, step: Step): Promise<void> {
    if (step.do === 'submit' || step.do === 'fault') return;
    const give = async (): Promise<void> => {
      if (step.do === 'drill') return readiness.drill(ground.workerId(step.worker));
      if (step.do === 'armed') return readiness.ask();
      if (step.do !== 'break-glass') return asker.give(step, (place) => ground.workerId(place));
      const [workerId, socket] = [ground.workerId(step.worker), ground.socketOf(step.worker)];
      if (workerId === undefined || socket === undefined) return undefined;
      return breakGlass(asker, { workerId, socket }, step.holdMs);
    };
    await give().catch(unlessGone);
    this.#note(`done: ${describeStep(step)}`);
  }

  /** Everything is healed: all executions must end, the last of them by a stop. Then the history is gathered. */
  async #settle({ ground, asker, producer, readiness }: All): Promise<Omit<History, 'aliveAfter'>> {
    await asker.releaseAll().catch(unlessGone);
    const { proofMs } = this.plan.profile;
    if (!(await this.#until(async () => producer.areAllKnown(), KNOWN_WITHIN_MS)))
      this.#note('a job of the queue has no execution');
    const unfinished = await this.#end(ground, asker);
    const live = async (): Promise<ExecutionRecord[]> => this.#live(asker);
    const rest = await live();
    if (rest.length > 0) this.#note(`stopping the ${rest.length} that are left`);
    await Promise.all(rest.map(async ({ id }) => asker.stop(id, 'last-stop')));
    const ended = await this.#until(async () => (await live()).length === 0, ENDED_WITHIN_MS);
    this.#note(ended ? 'all ended' : 'not all ended');
    const receipts = async () => ((await asker.client()?.receipts())?.items ?? []).map(receiptFacts);
    await this.#until(async () => (await receipts()).every(({ complete }) => complete), proofMs);
    // A job of the queue ends soon after its execution; a loss of the server takes BullMQ longer.
    if (!ground.faults.some(({ kind }) => hitsServer(kind as FaultKind)))
      await this.#until(async () => producer.areAllOver(), proofMs);
    await this.#readable(ground);
    const lines = readLines(this.#records);
    const processes = new Map(lines.map((line) => [identity(line), line]));
    const agents = new Set(lines.map(({ agentId }) => agentId));
    const aliveAtEnd = [...processes].flatMap(([id, { pid, startTime, agentId }]) =>
      lives(pid, startTime) ? [`${id} ${agentId}`] : [],
    );
    // In a namespace of its own a process has another pid.
    for (const { process: id, agentId } of livingAgents())
      if (agents.has(agentId) && !processes.has(id)) aliveAtEnd.push(`${id} ${agentId}`);
    const known = await this.#executions(ground, asker);
    this.#drilled = known.filter(({ planned }) => planned === undefined).map(({ id }) => id);
    return {
      executions: await Promise.all(
        known.map(async ({ planned, ...one }) => executionFacts(ground.fleet.life, one, planned)),
      ),
      workers: await workerFacts(ground.fleet.life, ground.workers),
      drains: ground.drains,
      drills: readiness.drills,
      armed: readiness.armed,
      produced: await producer.facts(),
      retried: [...asker.retried],
      unfinished,
      stepped: ground.stepped,
      forged: ground.intruder.forged,
      forgotten: ground.forgotten,
      pruned: hasFault(this.plan, 'worker-gone-pruned'),
      accepted: { ...asker.accepted, ...producer.executions },
      lossWindows: ground.lossWindows,
      orders: asker.orders,
      holds: asker.holds,
      receipts: await receipts(),
      faults: ground.faults,
      lines,
      aliveAtEnd,
      wallOffset: wallOffset(),
      lateS: this.#late.max / 1e9,
    };
  }

  /**
   * An execution with an end of its own reaches it by itself; one without is stopped. Late executions are examined before
   * anybody stops them.
   */
  async #end(ground: Ground, asker: Asker): Promise<UnfinishedFacts[]> {
    const { settleMs, endMs } = this.plan.profile;
    const byName = new Map(this.plan.executions.map((planned) => [planned.name, planned]));
    const plannedOf = ({ name }: ExecutionRecord): PlannedExecution | undefined => byName.get(name);
    const healedAt = performance.now();
    await this.#until(async () => (await this.#live(asker)).length === 0, settleMs);
    const endless = (await this.#live(asker)).filter((one) => {
      const planned = plannedOf(one);
      return planned !== undefined && isEndless(planned);
    });
    const stopped = endless.map(async ({ id }) => asker.stop(id, 'last-stop'));
    // Waits by the server's clock last longer when that was stepped back.
    const steps = this.plan.steps.map((step) => ('seconds' in step ? Math.abs(step.seconds ?? 0) : 0));
    const stepMs = this.injected.includes('server-clock-step') ? 1_000 * Math.max(...steps) : 0;
    const boundOf = (one: ExecutionRecord): number => {
      const planned = plannedOf(one);
      return endMs + stepMs + (planned === undefined ? DRILL_MS : 2 * workOf(planned));
    };
    const isLate = (one: ExecutionRecord): boolean =>
      performance.now() > healedAt + boundOf(one) && endless.every(({ id }) => id !== one.id);
    const late = new Map<string, UnfinishedFacts>();
    for (let live = await this.#live(asker); live.length > 0; live = await this.#live(asker)) {
      for (const one of live.filter((other) => isLate(other) && !late.has(other.id))) {
        const why = await waitsFor(ground.fleet.life, one.id, ground.queuePrefix);
        late.set(one.id, { id: one.id, state: one.state, boundS: boundOf(one) / 1_000, why });
      }
      const waiting = live.filter(({ id }) => !late.has(id) && endless.every((other) => other.id !== id));
      if (waiting.length === 0 || this.signal.aborted) break;
      if (await asker.releaseLate()) this.#note('released a latch that a worker engaged late');
      await pause(LOOK_MS, this.signal);
    }
    await Promise.all(stopped);
    return [...late.values()];
  }

  async #live(asker: Asker): Promise<ExecutionRecord[]> {
    const until = performance.now() + ENDED_WITHIN_MS;
    for (;;) {
      const page = await asker
        .client()
        ?.executions({ state: [...LIVE] })
        .catch(unlessGone);
      if (page !== undefined) return [...page.items];
      if (performance.now() > until || this.signal.aborted)
        throw new Error(`no orchestrator told within ${ENDED_WITHIN_MS} ms of the healing what runs`);
      await pause(LOOK_MS, this.signal);
    }
  }

  /** The campaign's own connection to the store may be the last to come back after the server did. */
  async #readable({ fleet }: Ground): Promise<void> {
    const read = async (): Promise<boolean> =>
      fleet.life.executions.list({ limit: 1 }).then(
        () => true,
        () => false,
      );
    if (!(await this.#until(read, READABLE_WITHIN_MS)))
      throw new Error(`the store could not be read within ${READABLE_WITHIN_MS} ms of the healing`);
  }

  /** Executions that were accepted, and those whose answer was lost. */
  async #executions(ground: Ground, asker: Asker) {
    const accepted = new Set([...asker.submitted.values()].flatMap(({ id }) => id ?? []));
    const { items } = await ground.fleet.life.executions.list({ limit: 1_000 });
    const plans = new Map(this.plan.executions.map((planned) => [planned.name, planned]));
    const listed = items.map(({ id, name }) => {
      const planned = plans.get(name);
      return { id, team: planned?.team ?? '', accepted: accepted.has(id), planned };
    });
    const missing = [...accepted].filter((id) => items.every((item) => item.id !== id));
    return [...listed, ...missing.map((id) => ({ id, team: '', accepted: true, planned: undefined }))];
  }

  /** False: not within the time. A check that fails for now is repeated. */
  async #until(holds: () => Promise<boolean>, ms: number): Promise<boolean> {
    const deadline = performance.now() + ms;
    for (;;) {
      if ((await holds().catch(unlessGone)) === true) return true;
      if (performance.now() > deadline || this.signal.aborted) return false;
      await pause(LOOK_MS, this.signal);
    }
  }

  async #close(ground: Ground): Promise<void> {
    if (this.signal.aborted) await ground.heal();
    await ground.close();
  }

  /** Processes with this seed's mark although its fleet is gone; the guardians' last work is awaited. */
  async #sweep(): Promise<string[]> {
    // A drill's canaries do not carry the seed's mark.
    const marks = [this.#mark, ...this.#drilled.map((id) => `BELAY_EXECUTION_ID=${id}`)];
    const left = (): string[] => marks.flatMap((mark) => carrying(mark));
    await this.#until(async () => left().length === 0, GONE_WITHIN_MS);
    return left();
  }

  #note(what: string): void {
    this.timeline.push({ at: Math.round((uptime() - this.#zero) * 100) / 100, what });
  }
}

/** A step in one line. */
export function describeStep(step: Step): string {
  if (step.do === 'fault') return `FAULT ${step.kind} ${step.place} for ${step.forMs} ms`;
  const words = Object.entries(step).filter(([key]) => key !== 'do' && key !== 'atMs');
  return [step.do, ...words.map(([key, value]) => `${key} ${String(value)}`)].join(', ');
}
