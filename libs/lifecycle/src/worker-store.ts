import { createHmac, timingSafeEqual } from 'node:crypto';
import {
  NotFoundError,
  proofProblem,
  type AgentRecord,
  type StopReport,
  type WorkerRecord,
  type WorkerState,
} from '#libs/contracts';
import { corrupt, parseStored, type ScriptReply, type ScriptRunner, type Valkey } from '#libs/valkey';
import { decodeWorker } from './decode';
import { accepted } from './refusals';

const ESCAPEE_TOLD_MS = 3_600_000;
const PROOF_KEPT_MS = 30 * 24 * 3_600_000;

/** The first process of a tree, as the agent's record names it. */
export interface Leader {
  readonly pid: number;
  readonly startTime: string;
}

/** A proof about a worker's processes that another process made. */
export interface KeptProof {
  readonly report: StopReport;
  /** The trees that the proof is about; absent: all of them, and the worker is gone. */
  readonly leaders?: readonly Leader[];
  /** The worker's last heartbeat when it was declared dead. A later heartbeat refutes the proof. */
  readonly lastHeartbeatAt?: string;
}

/** The part of a proof that covers one agent. */
export function reportFor(
  proof: KeptProof | undefined,
  { pid, pidStartTime }: Pick<AgentRecord, 'pid' | 'pidStartTime'>,
): StopReport | undefined {
  const { leaders, report } = proof ?? {};
  const isCovered =
    leaders === undefined || leaders.some((one) => one.pid === pid && one.startTime === pidStartTime);
  return isCovered ? report : undefined;
}

/** Tells a proof that was read from a file from a forged one. */
export interface ProofSeal {
  /** The worker whose key signed the proof. */
  readonly signer: string;
  readonly text: string;
  /** HMAC-SHA-256 of `text`, hexadecimal. */
  readonly signature: string;
}

/**
 * The field of a worker's record with the key that signs its proofs and its record in the data directory. No read of
 * the record returns it.
 */
export const PROOF_KEY = 'proofKey';

/** One worker's lease as last renewed. */
export interface Lease {
  readonly workerId: string;
  /** By the server's clock. Another value tells that the lease was renewed. */
  readonly endsAt: number;
  /** Milliseconds; NaN where it is unknown. */
  readonly lengthMs: number;
}

/** The answer to a heartbeat. */
export interface Heartbeat {
  readonly state: WorkerState;
  /** The server's clock, milliseconds. */
  readonly now: number;
  /** The newest id in the orders log. If it differs from the worker's cursor, the worker has orders to read. */
  readonly ordersHead: string;
  /** Grows with every latch engaged or released; absent at registration. */
  readonly latchesVersion?: number;
  /** Targets of orders that this worker has not dealt with yet; absent at registration. */
  readonly targets?: number;
}

/** Workers: registration, lease, states. Their keys are in the control slot. */
export class WorkerStore {
  private readonly settings: string;

  constructor(
    private readonly valkey: Valkey,
    retentionMs: number,
  ) {
    this.settings = JSON.stringify({
      channel: valkey.keys.eventsChannel,
      controlEvents: 10_000,
      retentionMs,
    });
  }

  async register(id: string, fields: Readonly<Record<string, string>>, leaseMs: number): Promise<Heartbeat> {
    return accepted(await this.call('registerWorker', id, [JSON.stringify(fields), leaseMs]), 'worker', id);
  }

  /**
   * Renews the lease. `scripts` may have a connection of its own.
   * @throws StaleEpochError when the lease ran out and was taken: the worker must stop its agents
   */
  async heartbeat(
    id: string,
    leaseMs: number,
    running: number,
    scripts: ScriptRunner = this.valkey.scripts,
  ): Promise<Heartbeat> {
    const sentAt = performance.now();
    const reply = await this.call('heartbeat', id, [leaseMs, running], scripts);
    const beat = accepted<Heartbeat>(reply, 'worker', id);
    this.valkey.clock.observe(beat.now, sentAt, performance.now());
    return beat;
  }

  async transition(
    id: string,
    to: WorkerState,
    options: { reason?: string; version?: number } = {},
  ): Promise<{ state: WorkerState; version: number }> {
    return accepted(
      await this.call('transitionWorker', id, [to, options.reason ?? '', options.version ?? '']),
      'worker',
      id,
    );
  }

  /** @throws NotFoundError */
  async get(id: string): Promise<WorkerRecord> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.worker(id);
    return quarantine.reading(key, async () => {
      const [fields, lease] = await Promise.all([
        redis.hgetall(key),
        redis.zscore(keys.shard(keys.control, 'leases'), id),
      ]);
      if (Object.keys(fields).length === 0) throw new NotFoundError('worker', id);
      return decodeWorker(key, fields, lease);
    });
  }

  /** Workers in those states; by default all that are not stopped. */
  async list(states: readonly WorkerState[] = ['idle', 'running', 'draining']): Promise<WorkerRecord[]> {
    const { redis, keys } = this.valkey;
    const lists = await Promise.all(states.map((s) => redis.zrange(keys.workersIn(s), 0, '9999')));
    const found = await Promise.all(lists.flat().map(async (id) => this.get(id).catch(() => undefined)));
    return found.filter((worker) => worker !== undefined).sort((a, b) => a.createdAt - b.createdAt);
  }

  /** Workers whose lease ran out unrenewed within the last `withinMs`, the latest first. Bounded by the index of stopped ones. */
  async lostLately(withinMs: number): Promise<WorkerRecord[]> {
    const { redis, keys, clock } = this.valkey;
    const index = keys.workersIn('stopped');
    const ids = await redis.zrangebyscore(index, clock.now() - withinMs, '+inf');
    const found = await Promise.all(ids.toReversed().map(async (id) => this.get(id).catch(() => undefined)));
    return found.flatMap((worker) => (worker?.reason === 'worker_lost' ? [worker] : []));
  }

  /** Every lease, with its length. */
  async leases(): Promise<Lease[]> {
    const { redis, keys } = this.valkey;
    const [ends, lengths] = await Promise.all([
      redis.zrange(keys.shard(keys.control, 'leases'), 0, '-1', 'WITHSCORES'),
      redis.hgetall(keys.shard(keys.control, 'leases:ms')),
    ]);
    const leases: Lease[] = [];
    for (let i = 0; i < ends.length; i += 2) {
      const workerId = ends[i] as string;
      leases.push({ workerId, endsAt: Number(ends[i + 1]), lengthMs: Number(lengths[workerId]) });
    }
    return leases;
  }

  /**
   * Stops a worker for good that did not renew that lease for its whole length. Resolves with false when the worker
   * renewed it meanwhile.
   */
  async expire({ workerId, endsAt }: Pick<Lease, 'workerId' | 'endsAt'>): Promise<boolean> {
    const reply = await this.call('expireWorker', workerId, [endsAt]);
    return accepted<{ expired: boolean }>(reply, 'worker', workerId).expired;
  }

  /** Lost workers that still have agents to end. */
  async lost(): Promise<string[]> {
    const { redis, keys } = this.valkey;
    return redis.zrange(keys.shard(keys.control, 'lost'), 0, '99');
  }

  /** Reports an orphan on a worker that bears no sign of an agent. Repeatable: reported once for each process. */
  async tellEscapee(
    id: string,
    escapee: {
      readonly pid: number;
      readonly startTime: string;
      readonly command: string;
      readonly killed: boolean;
    },
  ): Promise<void> {
    const { keys, scripts } = this.valkey;
    const { pid, startTime } = escapee;
    await scripts.run('tellEscapee', keys.escapee(id, pid, startTime), [
      keys.control,
      id,
      this.settings,
      JSON.stringify(escapee),
      ESCAPEE_TOLD_MS,
    ]);
  }

  /**
   * Stores that a dead worker's processes were all seen dead; with `leaders`, that those trees of a silent worker
   * were. The janitor uses the proof when it declares the worker lost.
   */
  async saveProof(id: string, report: StopReport, leaders?: readonly Leader[]): Promise<void> {
    const { scripts, keys } = this.valkey;
    const heard = leaders === undefined ? { lastHeartbeatAt: await this.lastHeartbeat(id) } : { leaders };
    await scripts.run('saveProof', keys.workerProof(id), [
      keys.control,
      JSON.stringify({ report, ...heard }),
      PROOF_KEPT_MS,
      leaders === undefined ? '' : 'NX',
    ]);
  }

  /**
   * Whether the worker that a seal names signed the text; `unknown` where no key of that worker is registered any
   * more.
   */
  async checkSeal(seal: ProofSeal): Promise<'right' | 'wrong' | 'unknown'> {
    const key = await this.field(seal.signer, PROOF_KEY);
    if (key === undefined) return 'unknown';
    return isSignedWith(key, seal) ? 'right' : 'wrong';
  }

  /**
   * Keeps a proof that was read from a file, which agents of the worker's user can write. With the signature of a
   * worker that registered a key, the proof keeps its grade. Where the worker has no key, as in earlier releases, it
   * has the grade `marks`.
   * @returns `refused`, and keeps nothing, where the worker has a key that did not sign: the proof is forged.
   */
  async saveFiledProof(
    id: string,
    report: StopReport,
    leaders: readonly Leader[] | undefined,
    seal: ProofSeal | undefined,
  ): Promise<'refused' | undefined> {
    const isSigned = seal !== undefined && (await this.checkSeal(seal)) === 'right';
    const own = await this.field(id, PROOF_KEY);
    if (!isSigned && own !== undefined) return 'refused';
    await this.saveProof(id, isSigned ? report : asMarks(report), leaders);
    return undefined;
  }

  /**
   * The proof that `saveProof` kept; undefined where nobody has seen the processes dead. A worker that renewed its
   * lease after it was declared dead was alive, so such a proof counts for nothing.
   */
  async proof(id: string): Promise<KeptProof | undefined> {
    const { redis, keys, quarantine } = this.valkey;
    const key = keys.workerProof(id);
    return quarantine.readable(key, async () => {
      const text = await redis.get(key);
      if (text === null) return undefined;
      const proof = parseStored<KeptProof>(key, text);
      const wrong = proofProblem(proof);
      if (wrong !== undefined) throw corrupt({ key, problem: wrong.problem, text });
      const heard = proof.leaders === undefined ? await this.lastHeartbeat(id) : undefined;
      return heard === undefined || heard === proof.lastHeartbeatAt ? proof : undefined;
    });
  }

  /** The last heartbeat as stored; undefined where there is none, or none that can be read. */
  private lastHeartbeat(id: string): Promise<string | undefined> {
    return this.field(id, 'lastHeartbeatAt');
  }

  private async field(id: string, name: string): Promise<string | undefined> {
    const { redis, keys } = this.valkey;
    try {
      return (await redis.hget(keys.worker(id), name)) ?? undefined;
    } catch (error) {
      if (error instanceof Error && error.message.startsWith('WRONGTYPE')) return undefined;
      throw error;
    }
  }

  async forgetLost(id: string): Promise<void> {
    const { redis, keys } = this.valkey;
    await redis.zrem(keys.shard(keys.control, 'lost'), id);
  }

  private call(
    name: Parameters<Valkey['scripts']['json']>[0],
    id: string,
    rest: readonly (string | number)[],
    scripts: ScriptRunner = this.valkey.scripts,
  ): Promise<ScriptReply> {
    const { keys } = this.valkey;
    return scripts.json(name, keys.worker(id), [keys.control, id, this.settings, ...rest]);
  }
}

function isSignedWith(key: string, { text, signature }: ProofSeal): boolean {
  const right = createHmac('sha256', key).update(text).digest();
  const given = Buffer.from(signature, 'hex');
  return given.length === right.length && timingSafeEqual(given, right);
}

/** Lowers a report to the grade `marks`: somebody claims it, and the kernel is no witness. */
function asMarks(report: StopReport): StopReport {
  return {
    ...report,
    evidence: [{ kind: 'sweep-empty', detail: 'told by a file that no worker of a known key signed' }],
  };
}
