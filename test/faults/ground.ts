import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { breakGlassPath, createClient, type BelayClient } from '#libs/client';
import { startFleet, type Fleet, type Member } from '../support/fleet';
import { atMost, pause, uptime } from './clock';
import { hitsOrchestrator, hitsServer, isIntrusion } from './draw-steps';
import { fillLogs, freeLogs } from './full-logs';
import { LeftAlone, startApart, untilBusy, whyNoNamespace } from './gone';
import {
  leavesTrees,
  type DrainFacts,
  type FaultFacts,
  type ForgottenFacts,
  type LossWindow,
} from './history';
import { Intruder } from './intruder';
import { hasFault } from './plan';
import type { FaultKind, Plan, Pool, Step } from './plan-types';
import { guardianOf, send } from './processes';
import { ServerClock } from './server-clock';
import { isTrouble, ServerHand } from './server-hand';
import { openState, type State } from './state';
import { findFaketime, forgetFaketime, SteppedClock } from './stepped-clock';
import type { Wire } from './wire';

const STOP_WITHIN_MS = 25_000;
/** The time between two tries to start a process that a fault keeps from starting. */
const RETRY_MS = 200;
const START_TRIES = 20;
const DELAY_SHARE = 0.15;
const LONGEST_DELAY_MS = 400;
/** After this without a claim, the fault is given up. */
const CLAIM_WITHIN_MS = 1_500;
/** The time for bytes that the link releases to reach the worker's socket. */
const ARRIVES_WITHIN_MS = 50;
const ALONE_MS = 400;
/** Beyond a drain's own deadline: patience, grace and 20 s. */
const DRAINED_WITHIN_MS = 26_000;
/** So that two signals do not coalesce into one. */
const BETWEEN_SIGNALS_MS = 30;
const NO_GRACE = 0;
/** A requested failover may take this long. */
const FAILOVER_MS = 3_000;
/** Answers of this time before its death may not be replicated. Seconds. */
const UNSENT_S = 0.1;
/** The sentinels' own bound of a failover (failover-timeout): by then they name another primary, or there is none. */
const NAMED_WITHIN_MS = 5_000;
/** From the sentinels' announcement until all writers have left the old primary. Seconds. */
const LEFT_WITHIN_S = 0.3;

type FaultStep = Extract<Step, { do: 'fault' }>;

/** The place of one process of the fleet: when it dies, another one takes the place, with the same link and data directory. */
interface Place {
  readonly role: 'worker' | 'orchestrator';
  readonly link: Wire;
  readonly dataDir: string;
  /** Of a worker. */
  readonly pools: readonly Pool[];
  readonly clock: SteppedClock | undefined;
  member: Member | undefined;
  starting: Promise<void> | undefined;
  stopped: boolean;
}

/** A real fleet for one seed, with everything that can be done to it. */
export class Ground {
  readonly faults: FaultFacts[] = [];
  readonly injected: FaultKind[] = [];
  /** Faults that this machine cannot do, with the reasons. */
  readonly skipped: { readonly kind: FaultKind; readonly why: string }[] = [];
  readonly drains: DrainFacts[] = [];
  readonly forgotten: ForgottenFacts[] = [];
  /** Times of asynchronous replication around the death or the replacement of a primary. */
  readonly lossWindows: LossWindow[] = [];
  /** Workers whose clock was stepped. */
  readonly stepped: string[] = [];
  /** Every worker so far, with its pools. */
  readonly workers = new Map<string, readonly Pool[]>();
  readonly intruder = new Intruder();
  readonly #hand: ServerHand;
  #serverDown: Promise<void> | undefined;
  /** Each settles when it is known whether another primary was named. */
  readonly #windows: Promise<void>[] = [];
  #over = false;
  #healed = false;

  private constructor(
    readonly fleet: Fleet,
    private readonly state: State,
    /** The server's clock. */
    private readonly clock: ServerClock | undefined,
    private readonly places: readonly Place[],
    private readonly env: Record<string, string>,
    private readonly stopTimeoutMs: number,
  ) {
    this.#hand = new ServerHand(state);
  }

  static async open(plan: Plan, mark: string): Promise<Ground> {
    const { leaseMs, heartbeatMs } = plan.profile;
    const env = {
      BELAY_LEASE_TTL_MS: String(leaseMs),
      BELAY_HEARTBEAT_MS: String(heartbeatMs),
      BELAY_GRACE_MS: '150',
      BELAY_PROOF_LIMIT_MS: '1500',
      BELAY_WORKER_CONCURRENCY: String(plan.concurrency),
      BELAY_STOP_TIMEOUT_MS: String(plan.stopTimeoutMs),
      ...(hasFault(plan, 'worker-gone-pruned') ? { BELAY_MAX_ENDED: '0' } : {}),
      FAULTS_MARK: mark,
    };
    const stepped = new Set(
      plan.steps.flatMap((step) => (step.do === 'fault' && step.kind === 'clock-step' ? [step.place] : [])),
    );
    const stepsServer = hasFault(plan, 'server-clock-step');
    const faketime = stepped.size === 0 ? undefined : await findFaketime();
    const made = stepsServer ? await ServerClock.make() : undefined;
    const clock = made instanceof ServerClock ? made : undefined;
    const state = await openState(plan.ground, { ...process.env, ...clock?.env });
    const fleet = await startFleet({ workers: 0, orchestrators: 0, env, url: state.url });
    const place = async (role: Place['role'], name: string, index: number): Promise<Place> => {
      const dataDir = join(fleet.dir, name);
      mkdirSync(join(dataDir, 'agents'), { recursive: true });
      const link = await state.wire(() => pidOf(here.member));
      const hasClock = role === 'worker' && stepped.has(index) && typeof faketime === 'string';
      const here: Place = {
        role,
        link,
        dataDir,
        pools: plan.pools[index] ?? [],
        clock: hasClock ? new SteppedClock(faketime, dataDir) : undefined,
        member: undefined,
        starting: undefined,
        stopped: false,
      };
      return here;
    };
    const places = await Promise.all([
      ...Array.from({ length: plan.orchestrators }, async (_, i) => place('orchestrator', `o${i}`, i)),
      ...Array.from({ length: plan.workers }, async (_, i) => place('worker', `w${i}`, i)),
    ]);
    const ground = new Ground(fleet, state, clock, places, env, plan.stopTimeoutMs);
    if (typeof faketime === 'object') ground.skipped.push({ kind: 'clock-step', why: faketime.missing });
    if (made !== undefined && !(made instanceof ServerClock))
      ground.skipped.push({ kind: 'server-clock-step', why: made.missing });
    const noNamespace = hasFault(plan, 'worker-gone-unseen') ? whyNoNamespace() : undefined;
    if (noNamespace !== undefined) ground.skipped.push({ kind: 'worker-gone-unseen', why: noNamespace });
    try {
      await ground.#startAll();
      return ground;
    } catch (error) {
      await ground.close();
      throw error;
    }
  }

  get queuePrefix(): string {
    return this.state.queuePrefix;
  }

  /** Clients of orchestrators that should be alive, in turn. */
  clients(): BelayClient[] {
    return this.#places('orchestrator').flatMap(({ member }) =>
      member?.url === undefined || pidOf(member) === undefined
        ? []
        : [createClient({ url: member.url, token: this.fleet.token })],
    );
  }

  workerId(place: number): string | undefined {
    return this.#places('worker')[place]?.member?.id;
  }

  /** The socket on which that worker answers without the server. */
  socketOf(place: number): string | undefined {
    const { dataDir, member } = this.#places('worker')[place] ?? {};
    return dataDir === undefined || member === undefined ? undefined : breakGlassPath(dataDir, member.id);
  }

  /** Begins a fault; resolves when it is over. Never rejects for an effect of the fault itself. */
  async inflict({ kind, place: index, forMs, seconds = 0 }: FaultStep, signal: AbortSignal): Promise<void> {
    const place = this.#places(hitsOrchestrator(kind) ? 'orchestrator' : 'worker')[index];
    if (place?.member === undefined) return;
    if (kind === 'clock-step') {
      // Not entered as a fault, since it must explain nothing.
      if (place.clock === undefined) return;
      this.injected.push(kind);
      this.stepped.push(place.member.id);
      place.clock.step(seconds);
      await pause(forMs, signal);
      return place.clock.step(0);
    }
    if (isIntrusion(kind)) {
      // This must have no visible effect, so it explains nothing either.
      if (await this.#intrude(kind)) this.injected.push(kind);
      return;
    }
    if (this.skipped.some((one) => one.kind === kind)) return;
    const hits = kind === 'server-kill9' || kind === 'server-failover';
    const old = hits && this.state.writesUntilTold ? await this.#named() : undefined;
    if (kind === 'server-failover' && !(await this.state.failover())) return;
    const { id } = place.member;
    if (kind.startsWith('worker-gone-')) await untilBusy(id, signal);
    const who = hitsOrchestrator(kind) ? 'orchestrator' : id;
    const fault: FaultFacts = { kind, at: uptime(), ...(hitsServer(kind) ? {} : { workerId: who }) };
    // No claim came by at which to suspend it, so nothing was done.
    if (kind === 'worker-sigstop-at-claim' && !(await place.link.holdAtClaim(CLAIM_WITHIN_MS, signal)))
      return;
    // The server is dead just now, and cannot be told.
    if (isTrouble(kind) && !(await this.#hand.begin(kind, forMs))) return;
    this.injected.push(kind);
    this.faults.push(fault);
    if (kind === 'server-kill9' && this.state.hasReplicas)
      this.lossWindows.push({ from: fault.at - UNSENT_S, to: fault.at + UNSENT_S });
    if (kind === 'server-failover' && old !== undefined) this.#loses(old, fault.at);
    const ends = (): void => void (fault.until = uptime());
    await this.#hit(kind, place, { forMs, seconds }, signal, ends);
    if (leavesTrees(kind)) fault.reapedAt = uptime();
    // It is back, and accepts writes although another one may be about to take over.
    if (kind === 'server-kill9' && old !== undefined) this.#loses(old, fault.at + forMs / 1_000);
  }

  /** Writes to `old` from then on are lost if the sentinels name another primary, until they do. */
  #loses(old: string, from: number): void {
    const look = async (): Promise<void> => {
      const deadline = performance.now() + NAMED_WITHIN_MS;
      while (performance.now() < deadline && !this.#over) {
        if (((await this.#named()) ?? old) !== old)
          return void this.lossWindows.push({ from, to: uptime() + LEFT_WITHIN_S });
        await pause(RETRY_MS / 4);
      }
    };
    this.#windows.push(look());
  }

  /** The primary that the sentinels name now, as text. */
  async #named(): Promise<string | undefined> {
    return this.state.primary().then(
      (place) => JSON.stringify(place),
      () => undefined,
    );
  }

  /** False: the server was away. */
  async #intrude(kind: FaultKind): Promise<boolean> {
    try {
      const primary = await this.state.primary();
      await (kind === 'order-malformed' ? this.intruder.malformed(primary) : this.intruder.forge(primary));
      return true;
    } catch {
      return false;
    }
  }

  async #hit(
    kind: FaultKind,
    place: Place,
    { forMs, seconds }: { readonly forMs: number; readonly seconds: number },
    signal: AbortSignal,
    ends: () => void,
  ): Promise<void> {
    const pid = pidOf(place.member);
    const { link } = place;
    const during = async (begin: () => void, end: () => void): Promise<void> => {
      begin();
      await pause(forMs, signal);
      ends();
      end();
    };
    switch (kind) {
      case 'orchestrator-kill9':
      case 'worker-kill9':
        send(pid, 'SIGKILL');
        return this.#replace(place, forMs, signal);
      case 'worker-and-guardian-kill9':
        killBoth(pid);
        return this.#replace(place, forMs, signal);
      case 'worker-gone-unseen':
      case 'worker-gone-pruned':
        killBoth(pid);
        await this.#leaveAlone(place, kind === 'worker-gone-unseen', forMs, signal);
        return this.#replace(place, 0, signal);
      case 'guardian-kill9':
        send(pid === undefined ? undefined : guardianOf(pid), 'SIGKILL');
        return undefined;
      case 'worker-sigstop-short':
      case 'worker-sigstop-long':
        place.stopped = send(pid, 'SIGSTOP');
        await pause(forMs, signal);
        ends();
        send(pidOf(place.member), 'SIGCONT');
        place.stopped = false;
        return undefined;
      case 'worker-sigstop-at-claim':
        return this.#stopAtClaim(place, forMs, signal, ends);
      case 'worker-drain':
      case 'orchestrator-drain':
        await this.#drain(place, { forced: false });
        return this.#replace(place, forMs, signal);
      case 'worker-drain-forced':
        await this.#drain(place, { forced: true });
        return this.#replace(place, forMs, signal);
      case 'server-kill9':
        await this.#killServer(forMs, signal);
        return ends();
      case 'server-readonly':
      case 'server-full':
      case 'server-paused':
        await pause(forMs, signal);
        await this.#hand.end(kind);
        return ends();
      case 'server-clock-step':
        return during(
          () => this.clock?.step(seconds),
          () => this.clock?.step(0),
        );
      case 'server-failover':
        // Requested already: the time that it may take.
        await pause(FAILOVER_MS, signal);
        return ends();
      case 'replica-paused':
        await this.state.pauseReplica(forMs, signal);
        return ends();
      case 'clock-step':
      case 'order-malformed':
      case 'doorbell-forged':
        return undefined;
      case 'link-cut':
        return link.cut();
      case 'link-refused':
        return during(
          () => link.refuse(),
          () => link.heal(),
        );
      case 'link-delayed':
        return during(
          () => link.delay(Math.min(LONGEST_DELAY_MS, Math.ceil(forMs * DELAY_SHARE))),
          () => link.heal(),
        );
      case 'link-stalled':
        return during(
          () => link.stall(),
          () => link.heal(),
        );
      case 'doorbell-lost':
        return during(
          () => link.deafen(),
          () => link.heal(),
        );
      case 'logs-full':
        return during(
          () => fillLogs(place.dataDir),
          () => freeLogs(place.dataDir),
        );
    }
  }

  /** When the worker wakes, the first thing that it finds is the answer to its claim, and for a moment nothing else. */
  async #stopAtClaim(place: Place, forMs: number, signal: AbortSignal, ends: () => void): Promise<void> {
    const { link } = place;
    const pid = pidOf(place.member);
    place.stopped = send(pid, 'SIGSTOP');
    link.heal();
    await pause(ARRIVES_WITHIN_MS, signal);
    link.stall();
    await pause(forMs, signal);
    ends();
    send(pidOf(place.member), 'SIGCONT');
    place.stopped = false;
    await pause(ALONE_MS, signal);
    link.heal();
  }

  /**
   * Leaves a dead worker's and guardian's processes alone until the next worker comes; `unseen`: beside a worker that cannot
   * see them.
   */
  async #leaveAlone(place: Place, unseen: boolean, forMs: number, signal: AbortSignal): Promise<void> {
    const { member } = place;
    if (member === undefined) return;
    await member.exited;
    const left = await LeftAlone.by(this.fleet.life, member.id);
    // A fault of the server may keep it from starting: then no worker comes.
    const apart = unseen
      ? await startApart(this.fleet, this.#envOf(place)).catch(() => undefined)
      : undefined;
    if (apart !== undefined) {
      this.workers.set(apart.member.id, place.pools);
      insides.set(apart.member, apart.pid);
    }
    await pause(forMs, signal);
    this.forgotten.push(...(await left.forgotten()));
    if (apart !== undefined) await this.#drain({ ...place, member: apart.member }, { forced: false });
  }

  /** Asks the process to end, as an operator does, and records how it ends. */
  async #drain(place: Place, { forced, last }: Pick<DrainFacts, 'forced' | 'last'>): Promise<void> {
    const { member, role } = place;
    const pid = pidOf(member);
    if (member === undefined || pid === undefined) return;
    const askedAt = uptime();
    const limitAt = askedAt + (forced ? NO_GRACE : this.stopTimeoutMs / 1_000);
    const drain: DrainFacts = {
      role,
      id: member.id,
      askedAt,
      limitAt,
      forced,
      ...(last === undefined ? {} : { last }),
    };
    this.drains.push(drain);
    for (let i = 0; i < (forced ? 3 : 1); i++) {
      send(pidOf(member), 'SIGTERM');
      if (forced) await pause(BETWEEN_SIGNALS_MS);
    }
    const code = await atMost(DRAINED_WITHIN_MS, member.exited);
    if (code === undefined) send(pidOf(member), 'SIGKILL');
    else Object.assign(drain, { code: toldCode(code, member), endedAt: uptime() });
  }

  /** Ends every fault, and restarts dead processes. */
  async heal(): Promise<void> {
    await this.#serverDown;
    await Promise.all(this.#windows);
    await this.#hand.end('server-readonly');
    await this.#hand.end('server-full');
    this.clock?.step(0);
    for (const place of this.places) {
      place.link.heal();
      place.clock?.step(0);
      freeLogs(place.dataDir);
      if (place.stopped) send(pidOf(place.member), 'SIGCONT');
    }
    this.#healed = true;
    await this.#startAll();
  }

  /** Drains all. A process that does not end is killed by its pid, and that is an error. */
  async close(): Promise<void> {
    this.#over = true;
    const members = [...this.fleet.workers, ...this.fleet.orchestrators];
    await Promise.allSettled(this.places.map(async (place) => place.starting));
    for (const member of members) send(pidOf(member), 'SIGCONT');
    const drained = this.places.map(async (place) => this.#drain(place, { forced: false, last: true }));
    try {
      if (
        (await atMost(
          STOP_WITHIN_MS,
          this.fleet.stop().then(() => true),
        )) === undefined
      )
        throw new Error(`the fleet did not stop within ${STOP_WITHIN_MS} ms`);
      await Promise.all(drained);
    } finally {
      this.killAll();
      forgetFaketime(this.fleet.workers.map((member) => member.process.pid));
      for (const { link } of this.places) link.close();
      await this.state.stop();
      this.clock?.remove();
      rmSync(this.fleet.dir, { recursive: true, force: true });
    }
  }

  /** Without waiting: the guardians do the rest. */
  killAll(): void {
    for (const member of [...this.fleet.workers, ...this.fleet.orchestrators]) send(pidOf(member), 'SIGKILL');
    for (const { dataDir } of this.places) freeLogs(dataDir);
  }

  #places(role: Place['role']): Place[] {
    return this.places.filter((place) => place.role === role);
  }

  async #killServer(forMs: number, signal: AbortSignal): Promise<void> {
    this.#serverDown ??= this.state.kill9(forMs, signal).finally(() => (this.#serverDown = undefined));
    await this.#serverDown;
  }

  async #startAll(): Promise<void> {
    await Promise.all(this.places.map(async (place) => this.#start(place)));
  }

  async #replace(place: Place, afterMs: number, signal: AbortSignal): Promise<void> {
    await place.member?.exited;
    await pause(afterMs, signal);
    await this.#start(place);
  }

  /** A worker that wakes to a lost lease ends by itself, maybe after the healing: a supervisor would restart it. */
  async #supervise(place: Place, member: Member): Promise<void> {
    await member.exited;
    if (this.#healed && !this.#over && place.member === member)
      await this.#start(place).catch(() => undefined);
  }

  #envOf(place: Place): Record<string, string> {
    return {
      ...this.env,
      ...place.clock?.env,
      ...(place.role === 'worker' ? { BELAY_POOLS: place.pools.join(',') } : {}),
      BELAY_VALKEY_URL: place.link.url,
      BELAY_DATA_DIR: place.dataDir,
    };
  }

  /** Starts a process in this place; retried, since other faults may keep it from starting. */
  async #start(place: Place): Promise<void> {
    if (pidOf(place.member) !== undefined) return;
    place.starting ??= this.#tryStart(place).finally(() => (place.starting = undefined));
    await place.starting;
  }

  async #tryStart(place: Place): Promise<void> {
    const env = this.#envOf(place);
    for (let tries = 1; !this.#over; tries++) {
      try {
        place.member = await (place.role === 'worker'
          ? this.fleet.addWorker(env)
          : this.fleet.addOrchestrator(env));
        if (place.role === 'worker') this.workers.set(place.member.id, place.pools);
        void this.#supervise(place, place.member);
        return;
      } catch (error) {
        if (tries === START_TRIES) throw error;
        await pause(RETRY_MS);
      }
    }
  }
}

/** A signal that comes when Node has already removed its handlers ends the process by that signal's name. */
function toldCode(code: number | string, member: Member): number | string {
  const last = member
    .log()
    .split('\n')
    .find((line) => line.includes('"msg":"stopped"'));
  if (code !== 'SIGTERM' || last === undefined) return code;
  return last.includes('"forced":true') ? 3 : 0;
}

/** The inner pids of members whose process only started them. */
const insides = new WeakMap<Member, number | undefined>();

/** Undefined once it has ended: the number may name another process by now. */
function pidOf(member: Member | undefined): number | undefined {
  const { pid, exitCode, signalCode } = member?.process ?? {};
  if (member === undefined || exitCode !== null || signalCode !== null) return undefined;
  return insides.has(member) ? insides.get(member) : pid;
}

/** Kills a worker and its guardian so that neither acts on the other's death. */
function killBoth(worker: number | undefined): void {
  const guardian = worker === undefined ? undefined : guardianOf(worker);
  send(guardian, 'SIGSTOP');
  send(worker, 'SIGKILL');
  send(guardian, 'SIGKILL');
}
