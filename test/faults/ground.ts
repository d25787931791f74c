import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient, type BelayClient } from '#libs/client';
import { startFleet, type Fleet, type Member } from '../support/fleet';
import { atMost, pause, uptime } from './clock';
import type { FaultFacts } from './history';
import { Link } from './link';
import type { FaultKind, Plan } from './plan';
import { guardianOf, send } from './processes';

const STOP_WITHIN_MS = 25_000;
/** Between two tries to start a process that a fault keeps from starting. */
const RETRY_MS = 200;
const START_TRIES = 20;
const DELAY_SHARE = 0.15;
const LONGEST_DELAY_MS = 400;
/** No claim by then: nothing to stop at. */
const CLAIM_WITHIN_MS = 1_500;
/** What the link lets go is in the worker's socket by then. */
const ARRIVES_WITHIN_MS = 50;
const ALONE_MS = 400;

/** Where one process of the fleet is: when it dies, another takes the place, with the same link and data directory. */
interface Place {
  readonly role: 'worker' | 'orchestrator';
  readonly link: Link;
  readonly dataDir: string;
  member: Member | undefined;
  starting: Promise<void> | undefined;
  stopped: boolean;
}

/** A real fleet of one seed, with everything that can be done to it. */
export class Ground {
  readonly faults: FaultFacts[] = [];
  readonly injected: FaultKind[] = [];
  #serverDown: Promise<void> | undefined;
  #over = false;

  private constructor(
    readonly fleet: Fleet,
    private readonly places: readonly Place[],
    private readonly env: Record<string, string>,
  ) {}

  static async open(plan: Plan, mark: string): Promise<Ground> {
    const { leaseMs, heartbeatMs } = plan.profile;
    const env = {
      BELAY_LEASE_TTL_MS: String(leaseMs),
      BELAY_HEARTBEAT_MS: String(heartbeatMs),
      BELAY_GRACE_MS: '150',
      BELAY_PROOF_LIMIT_MS: '1500',
      BELAY_WORKER_CONCURRENCY: String(plan.concurrency),
      FAULTS_MARK: mark,
    };
    const fleet = await startFleet({ workers: 0, orchestrators: 0, env, server: { appendonly: true } });
    const upstream = { path: fleet.server.socketPath ?? '' };
    const place = async (role: Place['role'], name: string): Promise<Place> => {
      const dataDir = join(fleet.dir, name);
      mkdirSync(join(dataDir, 'agents'), { recursive: true });
      const link = await Link.open(upstream);
      return { role, link, dataDir, member: undefined, starting: undefined, stopped: false };
    };
    const places = await Promise.all([
      ...Array.from({ length: plan.orchestrators }, async (_, i) => place('orchestrator', `o${i}`)),
      ...Array.from({ length: plan.workers }, async (_, i) => place('worker', `w${i}`)),
    ]);
    const ground = new Ground(fleet, places, env);
    try {
      await ground.#startAll();
      return ground;
    } catch (error) {
      await ground.close();
      throw error;
    }
  }

  /** Of an orchestrator that is thought to live, each in its turn. */
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

  /** Begins a fault; resolves when it is over. Never rejects for what the fault itself makes impossible. */
  async inflict(kind: FaultKind, index: number, forMs: number, signal: AbortSignal): Promise<void> {
    const isOrchestrator = kind === 'orchestrator-kill9';
    const place = this.#places(isOrchestrator ? 'orchestrator' : 'worker')[index];
    if (place?.member === undefined) return;
    const { id } = place.member;
    const fault: FaultFacts = {
      kind,
      at: uptime(),
      ...(kind === 'server-kill9' ? {} : { workerId: isOrchestrator ? 'orchestrator' : id }),
    };
    // No claim went by to be stopped at: nothing was done.
    if (kind === 'worker-sigstop-at-claim' && !(await place.link.holdAtClaim(CLAIM_WITHIN_MS, signal)))
      return;
    this.injected.push(kind);
    this.faults.push(fault);
    await this.#hit(kind, place, forMs, signal);
    if (kind === 'worker-and-guardian-kill9') fault.reapedAt = uptime();
  }

  async #hit(kind: FaultKind, place: Place, forMs: number, signal: AbortSignal): Promise<void> {
    const pid = pidOf(place.member);
    const { link } = place;
    const during = async (begin: () => void, end: () => void): Promise<void> => {
      begin();
      await pause(forMs, signal);
      end();
    };
    switch (kind) {
      case 'orchestrator-kill9':
      case 'worker-kill9':
        send(pid, 'SIGKILL');
        return this.#replace(place, forMs, signal);
      case 'worker-and-guardian-kill9': {
        const guardian = pid === undefined ? undefined : guardianOf(pid);
        send(guardian, 'SIGSTOP'); // so that neither acts on the other's death
        send(pid, 'SIGKILL');
        send(guardian, 'SIGKILL');
        return this.#replace(place, forMs, signal);
      }
      case 'guardian-kill9':
        send(pid === undefined ? undefined : guardianOf(pid), 'SIGKILL');
        return undefined;
      case 'worker-sigstop-short':
      case 'worker-sigstop-long':
        place.stopped = send(pid, 'SIGSTOP');
        await pause(forMs, signal);
        send(pidOf(place.member), 'SIGCONT');
        place.stopped = false;
        return undefined;
      case 'worker-sigstop-at-claim':
        return this.#stopAtClaim(place, forMs, signal);
      case 'server-kill9':
        return this.#killServer(forMs, signal);
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

  /** The answer to its claim is the first thing that the worker finds when it wakes, and for a moment the only one. */
  async #stopAtClaim(place: Place, forMs: number, signal: AbortSignal): Promise<void> {
    const { link } = place;
    const pid = pidOf(place.member);
    place.stopped = send(pid, 'SIGSTOP');
    link.heal();
    await pause(ARRIVES_WITHIN_MS, signal);
    link.stall();
    await pause(forMs, signal);
    send(pidOf(place.member), 'SIGCONT');
    place.stopped = false;
    await pause(ALONE_MS, signal);
    link.heal();
  }

  /** Ends every fault, and brings back whoever died. */
  async heal(): Promise<void> {
    await this.#serverDown;
    for (const place of this.places) {
      place.link.heal();
      freeLogs(place.dataDir);
      if (place.stopped) send(pidOf(place.member), 'SIGCONT');
    }
    await this.#startAll();
  }

  /** Drains all; what does not end is killed by its pid, and that is an error. */
  async close(): Promise<void> {
    this.#over = true;
    const members = [...this.fleet.workers, ...this.fleet.orchestrators];
    await Promise.allSettled(this.places.map(async (place) => place.starting));
    for (const member of members) send(pidOf(member), 'SIGCONT');
    try {
      if (
        (await atMost(
          STOP_WITHIN_MS,
          this.fleet.stop().then(() => true),
        )) === undefined
      )
        throw new Error(`the fleet did not stop within ${STOP_WITHIN_MS} ms`);
    } finally {
      this.killAll();
      for (const { link } of this.places) link.close();
      rmSync(this.fleet.dir, { recursive: true, force: true });
    }
  }

  /** At once and without waiting: the guardians do the rest. */
  killAll(): void {
    for (const member of [...this.fleet.workers, ...this.fleet.orchestrators]) send(pidOf(member), 'SIGKILL');
    for (const { dataDir } of this.places) freeLogs(dataDir);
  }

  #places(role: Place['role']): Place[] {
    return this.places.filter((place) => place.role === role);
  }

  async #killServer(forMs: number, signal: AbortSignal): Promise<void> {
    this.#serverDown ??= (async () => {
      await this.fleet.server.kill9();
      await pause(forMs, signal);
      await this.fleet.server.restart();
    })().finally(() => (this.#serverDown = undefined));
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

  /** Somebody in this place; tried again, since other faults may keep it from starting. */
  async #start(place: Place): Promise<void> {
    if (pidOf(place.member) !== undefined) return;
    place.starting ??= this.#tryStart(place).finally(() => (place.starting = undefined));
    await place.starting;
  }

  async #tryStart(place: Place): Promise<void> {
    const env = { ...this.env, BELAY_VALKEY_URL: place.link.url, BELAY_DATA_DIR: place.dataDir };
    for (let tries = 1; !this.#over; tries++) {
      try {
        place.member = await (place.role === 'worker'
          ? this.fleet.addWorker(env)
          : this.fleet.addOrchestrator(env));
        return;
      } catch (error) {
        if (tries === START_TRIES) throw error;
        await pause(RETRY_MS);
      }
    }
  }
}

/** Undefined once it has ended: the number may be somebody else's by now. */
function pidOf(member: Member | undefined): number | undefined {
  const { pid, exitCode, signalCode } = member?.process ?? {};
  return exitCode === null && signalCode === null ? pid : undefined;
}

const aside = (dataDir: string): string => join(dataDir, 'agents-aside');

/** The disk of the logs is full: a small file system of its own in their place where root may mount one. */
function fillLogs(dataDir: string): void {
  const logs = join(dataDir, 'agents');
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'belay-faults', logs], { stdio: 'ignore' });
    writeFileSync(join(logs, 'full'), Buffer.alloc(4_096));
  } catch {
    // Not allowed here: a plain file where the directory was fails every open as well, also for root.
    if (existsSync(aside(dataDir))) return;
    renameSync(logs, aside(dataDir));
    writeFileSync(logs, '');
  }
}

function freeLogs(dataDir: string): void {
  const logs = join(dataDir, 'agents');
  if (existsSync(aside(dataDir))) {
    rmSync(logs, { recursive: true, force: true });
    renameSync(aside(dataDir), logs);
  } else if (existsSync(join(logs, 'full')))
    // Lazily: a worker may hold a log open in it.
    execFileSync('umount', ['--lazy', logs], { stdio: 'ignore' });
}
