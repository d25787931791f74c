/**
 * The events of one seed, as plain data: the checker's input. Times are seconds of /proc/uptime unless a name says
 * otherwise.
 */
export interface History {
  readonly executions: readonly ExecutionFacts[];
  readonly orders: readonly OrderFacts[];
  /** The processes that a freeze reported still. */
  readonly holds: readonly HoldFacts[];
  /** Every receipt as it stood at the end. */
  readonly receipts: readonly ReceiptFacts[];
  readonly faults: readonly FaultFacts[];
  /** Every worker that was started, and how it was left. */
  readonly workers: readonly WorkerFacts[];
  readonly drains: readonly DrainFacts[];
  readonly drills: readonly DrillFacts[];
  readonly armed: readonly ArmedFacts[];
  /** Executions handed in over the producers' queue. */
  readonly produced: readonly ProducedFacts[];
  /** Executions that were asked to go on after their end. */
  readonly retried: readonly string[];
  /** Executions that should have ended by themselves once everything was healed, and did not within their bound. */
  readonly unfinished: readonly UnfinishedFacts[];
  /** Workers whose wall clock was stepped: no fault, and nothing that explains anything. */
  readonly stepped: readonly string[];
  /** Orders that nobody gave: no log has them. */
  readonly forged: readonly string[];
  /** Processes left alone with both their guards dead, and not known as unproved. */
  readonly forgotten: readonly ForgottenFacts[];
  /** Ended executions go at once: what is not there may have ended. */
  readonly pruned: boolean;
  /** By execution: from its submit to the answer that named it. It was stored at some moment between the two. */
  readonly accepted: Readonly<Record<string, Span>>;
  /** When what was answered may be lost with a primary (docs/deployment.md, "The window"). */
  readonly lossWindows: readonly LossWindow[];
  /** The agents' own records of themselves. */
  readonly lines: readonly Line[];
  /** Processes of agents that lived when all was over and the fleet still ran: `PID:STARTTIME`. */
  readonly aliveAtEnd: readonly string[];
  /** The same once the fleet had been stopped, and whatever else carried this seed's mark. */
  readonly aliveAfter: readonly string[];
  /** Valkey's clock less this one's. */
  readonly wallOffset: number;
  /** The most that a timer of the campaign's own process was late: how busy the machine was. Seconds. */
  readonly lateS: number;
}

/** One line of an agent's record. */
export interface Line {
  readonly word: 'start' | 'beat' | 'end' | 'cost';
  readonly agentId: string;
  readonly pid: number;
  readonly startTime: string;
  readonly at: number;
  readonly role?: 'main' | 'child';
  /** Of a `start`: who started it, also once its record is pruned. */
  readonly workerId?: string;
  /** Of a `cost`: spent, and about to be said. */
  readonly usd?: number;
}

export interface EventFacts {
  readonly seq: number;
  readonly type: string;
  readonly entity: string;
  readonly nodeId?: string | undefined;
  readonly agentId?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  /** Valkey's milliseconds. */
  readonly atMs: number;
  readonly reason?: string | undefined;
}

export interface AgentFacts {
  readonly id: string;
  readonly state: string;
  readonly owner: string;
  readonly reason?: string | undefined;
  /** Its report says so. */
  readonly proved: boolean;
  /** Of the order that ended it. */
  readonly orderId?: string | undefined;
  readonly nodeId?: string | undefined;
  readonly costUsd?: number | undefined;
}

/** A node as it is stored, with what the plan asked of it; of a drill's there is no plan. */
export interface NodeFacts {
  readonly id: string;
  readonly state: string;
  readonly pool?: string | undefined;
  readonly role?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

export interface ExecutionFacts {
  readonly id: string;
  readonly team: string;
  /** A 2xx answer named it. */
  readonly accepted: boolean;
  /** Undefined: there is no such execution. */
  readonly state: string | undefined;
  readonly events: readonly EventFacts[];
  readonly nodes: readonly NodeFacts[];
  readonly agents: readonly AgentFacts[];
  readonly name?: string | undefined;
  /** It was to complete, whatever happened. */
  readonly meant?: boolean | undefined;
  readonly reason?: string | undefined;
  readonly error?: string | undefined;
  readonly costUsd?: number | undefined;
  readonly maxCostUsd?: number | undefined;
  readonly timeoutMs?: number | undefined;
}

/** As it stood when its bound had passed, before anybody stopped it. */
export interface UnfinishedFacts {
  readonly id: string;
  readonly state: string;
  /** Since the healing. Seconds. */
  readonly boundS: number;
  /** The reason for waiting, as far as the store tells. */
  readonly why: string;
}

export interface TargetFacts {
  readonly agentId: string;
  readonly workerId: string;
  readonly outcome: string;
  readonly survivors: number;
}

export interface ReceiptFacts {
  readonly orderId: string;
  readonly kind: string;
  readonly complete: boolean;
  readonly targets: readonly TargetFacts[];
}

/** The targets that an order covers, in the words of the plan. */
export type Covers =
  /** It asks for no end. */
  | { readonly what: 'nothing' }
  | { readonly what: 'all' }
  | { readonly what: 'team'; readonly team: string }
  | { readonly what: 'pool'; readonly pool: string }
  | { readonly what: 'role'; readonly role: string }
  | { readonly what: 'worker'; readonly workerId: string }
  | { readonly what: 'execution'; readonly executionId: string }
  | { readonly what: 'agent'; readonly agentId: string };

/** A kill as it was asked for and answered. */
export interface OrderFacts {
  readonly name: string;
  readonly covers: Covers;
  /** A latch without a kill: what runs goes on. */
  readonly startsOnly?: true;
  /** Over a worker's own socket: what it had asked the server for may still be granted, and is not started. */
  readonly local?: true;
  readonly askedAt: number;
  /** Undefined: the answer was lost, and nothing follows from it. */
  answeredAt?: number;
  receipt?: ReceiptFacts;
  /** The answer to a stop. */
  status?: string;
  /** Its latch held at least until then; without a latch nothing new of a wide scope is kept from starting. */
  releasedAt?: number;
  error?: string;
}

/** Agents whose trees stand still, from the answer until somebody asks to let them go on. */
export interface HoldFacts {
  readonly name: string;
  readonly agentIds: readonly string[];
  readonly from: number;
  readonly until: number;
  /** Of the order that froze them: it is not what lets them go on. */
  readonly askedAt: number;
}

export interface FaultFacts {
  readonly kind: string;
  readonly at: number;
  /** When it began to be over; absent: it was not. */
  until?: number;
  /** Workers it may have touched; absent: all. */
  readonly workerId?: string;
  /** When another worker had reaped what two dead processes had left. */
  reapedAt?: number;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

/** An agent that nobody can have seen dead, and what the store made of it. */
export interface ForgottenFacts {
  readonly agentId: string;
  readonly workerId: string;
  readonly how: string;
}

/** Worker and guardian die at once: what they ran lives on until the next worker in that place has ended it. */
export const leavesTrees = (kind: string): boolean => /^worker-(and-guardian-kill9|gone-)/.test(kind);

/** From the first write that its replicas may not have, to the last that the next primary may not know. */
export interface LossWindow {
  readonly from: number;
  to: number;
}

/** Something that was stored at a moment of `span`. */
export function mayBeLost(span: Span | undefined, windows: readonly LossWindow[]): boolean {
  return span !== undefined && windows.some(({ from, to }) => span.from <= to && from <= span.to);
}

/** From a claim to the first word of its agent, on a machine that is busy. Seconds. */
const CLAIMED_BEFORE_S = 1;

/** A failover may have lost the claim of the first copy that this agent has lines of: it is granted again. */
export function mayHaveLostClaim(agentLines: readonly Line[], windows: readonly LossWindow[]): boolean {
  const from = Math.min(...agentLines.map(({ at }) => at));
  return mayBeLost({ from: from - CLAIMED_BEFORE_S, to: from }, windows);
}

/** A worker's record at the end. */
export interface WorkerFacts {
  readonly id: string;
  readonly pools: readonly string[];
  readonly state?: string | undefined;
  readonly reason?: string | undefined;
}

/** A process that was asked to end. */
export interface DrainFacts {
  readonly role: 'worker' | 'orchestrator';
  readonly id: string;
  readonly askedAt: number;
  /** Until then its agents may go on: SIGTERM and its patience. */
  readonly limitAt: number;
  /** Three signals. */
  readonly forced: boolean;
  /** With the whole fleet: nobody is left to read its record. */
  readonly last?: true;
  /** Undefined: it did not end within every bound. */
  endedAt?: number;
  code?: number | string;
}

export interface DrillFacts {
  readonly workerId: string;
  readonly passed: boolean;
  readonly outcomes: readonly string[];
  /** Of its canaries, when it was answered. */
  readonly alive: readonly string[];
}

export interface ArmedFacts {
  readonly askedAt: number;
  readonly answeredAt: number;
  readonly armed: boolean;
  readonly workers: readonly { readonly workerId: string; readonly armed: boolean }[];
}

export interface ProducedFacts {
  readonly name: string;
  /** The queue had it for good. */
  readonly accepted: boolean;
  /** From its submit until the queue had answered. */
  readonly span?: Span | undefined;
  readonly executionId?: string | undefined;
  /** How its job ended; absent: not by the end of the seed. */
  readonly job?: { readonly failed: string } | { readonly status: string; readonly costUsd: number };
}

export const identity = ({ pid, startTime }: Pick<Line, 'pid' | 'startTime'>): string =>
  `${pid}:${startTime}`;

/** Reads the record of one execution's agents; a line cut short (the disk full, say) is left out. */
export function parseLines(text: string): Line[] {
  return text.split('\n').flatMap((line): Line[] => {
    const [word = '', agentId = '', pid = '', startTime = '', at = '', usd = '', , role, workerId = ''] =
      line.split(' ');
    if (!/^(start|beat|end|cost)$/.test(word) || !/^\d+\.\d\d$/.test(at)) return [];
    const base = { word: word as Line['word'], agentId, pid: Number(pid), startTime, at: Number(at) };
    if (word === 'cost') return /^\d\.\d\d$/.test(usd) ? [{ ...base, usd: Number(usd) }] : [];
    return [role === 'main' || role === 'child' ? { ...base, role, workerId } : base];
  });
}
