/**
 * The events of one seed, as plain data: the checker's input. Times are seconds of /proc/uptime unless a name says otherwise.
 */
export interface History {
  readonly executions: readonly ExecutionFacts[];
  readonly orders: readonly OrderFacts[];
  /** The processes that a freeze reported stopped. */
  readonly holds: readonly HoldFacts[];
  /** Every receipt as it was at the end. */
  readonly receipts: readonly ReceiptFacts[];
  readonly faults: readonly FaultFacts[];
  /** Every worker that was started, with its end. */
  readonly workers: readonly WorkerFacts[];
  readonly drains: readonly DrainFacts[];
  readonly drills: readonly DrillFacts[];
  readonly armed: readonly ArmedFacts[];
  /** Executions submitted over the producers' queue. */
  readonly produced: readonly ProducedFacts[];
  /** Executions that were retried after their end. */
  readonly retried: readonly string[];
  /** Executions that should have ended by themselves once everything was healed, and did not within their bound. */
  readonly unfinished: readonly UnfinishedFacts[];
  /** Workers whose wall clock was stepped: this is no fault, and explains nothing. */
  readonly stepped: readonly string[];
  /** Orders that nobody placed: no log has them. */
  readonly forged: readonly string[];
  /** Processes of a dead worker and guardian that the store does not list as unproved. */
  readonly forgotten: readonly ForgottenFacts[];
  /** Ended executions are removed at once, so a missing one may have ended. */
  readonly pruned: boolean;
  /** By execution: from its submit to the answer that named it. It was stored at some moment in between. */
  readonly accepted: Readonly<Record<string, Span>>;
  /** The times in which an answer may be lost with a primary (docs/deployment.md, "The window, measured"). */
  readonly lossWindows: readonly LossWindow[];
  /** The agents' own records of themselves. */
  readonly lines: readonly Line[];
  /** Processes of agents that lived at the end, while the fleet still ran: `PID:STARTTIME`. */
  readonly aliveAtEnd: readonly string[];
  /** The same after the fleet had been stopped, and every other process with this seed's mark. */
  readonly aliveAfter: readonly string[];
  /** The server's clock minus this one's. */
  readonly wallOffset: number;
  /** The largest delay of a timer of the campaign's own process: how busy the machine was. Seconds. */
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
  /** In a `start`: the worker that started it, known also after its record is pruned. */
  readonly workerId?: string;
  /** In a `cost`: the amount spent, and about to be reported. */
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
  /** The server's milliseconds. */
  readonly atMs: number;
  readonly reason?: string | undefined;
}

export interface AgentFacts {
  readonly id: string;
  readonly state: string;
  readonly owner: string;
  readonly reason?: string | undefined;
  /** Whether its report says so. */
  readonly proved: boolean;
  /** The order that ended it. */
  readonly orderId?: string | undefined;
  readonly nodeId?: string | undefined;
  readonly costUsd?: number | undefined;
}

/** A node as stored, with the fields of its plan; a drill's node has no plan. */
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
  /** It must complete, whatever happens. */
  readonly meant?: boolean | undefined;
  readonly reason?: string | undefined;
  readonly error?: string | undefined;
  readonly costUsd?: number | undefined;
  readonly maxCostUsd?: number | undefined;
  readonly timeoutMs?: number | undefined;
}

/** As it was when its bound had passed, before anybody stopped it. */
export interface UnfinishedFacts {
  readonly id: string;
  readonly state: string;
  /** Counted from the healing. Seconds. */
  readonly boundS: number;
  /** Why it waits, as far as the store tells. */
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
  /** It ends nothing. */
  | { readonly what: 'nothing' }
  | { readonly what: 'all' }
  | { readonly what: 'team'; readonly team: string }
  | { readonly what: 'pool'; readonly pool: string }
  | { readonly what: 'role'; readonly role: string }
  | { readonly what: 'worker'; readonly workerId: string }
  | { readonly what: 'execution'; readonly executionId: string }
  | { readonly what: 'agent'; readonly agentId: string };

/** A kill: its request and its answer. */
export interface OrderFacts {
  readonly name: string;
  readonly covers: Covers;
  /** A latch without a kill: running agents go on. */
  readonly startsOnly?: true;
  /** Over a worker's own socket: claims that the worker had sent may still be granted, and are not started. */
  readonly local?: true;
  readonly askedAt: number;
  /** Undefined: the answer was lost, and nothing follows from it. */
  answeredAt?: number;
  receipt?: ReceiptFacts;
  /** The answer to a stop. */
  status?: string;
  /** Its latch was in force at least until then. Without a latch nothing keeps new work of a wide scope from starting. */
  releasedAt?: number;
  error?: string;
}

/** Agents whose trees are frozen, from the answer until somebody asks to resume them. */
export interface HoldFacts {
  readonly name: string;
  readonly agentIds: readonly string[];
  readonly from: number;
  readonly until: number;
  /** When the order that froze them was requested: that order does not resume them. */
  readonly askedAt: number;
}

export interface FaultFacts {
  readonly kind: string;
  readonly at: number;
  /** When its end began; absent: it did not end. */
  until?: number;
  /** Workers that it may have touched; absent: all. */
  readonly workerId?: string;
  /** When another worker had reaped the agents of two dead processes. */
  reapedAt?: number;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

/** An agent that no process can have seen dead, and its state in the store. */
export interface ForgottenFacts {
  readonly agentId: string;
  readonly workerId: string;
  readonly how: string;
}

/** Worker and guardian die at once: their agents live on until the next worker in that place has ended them. */
export const leavesTrees = (kind: string): boolean => /^worker-(and-guardian-kill9|gone-)/.test(kind);

/** From the first write that its replicas may lack, to the last that the next primary may lack. */
export interface LossWindow {
  readonly from: number;
  to: number;
}

/** Whether a write at some moment of `span` may be lost. */
export function mayBeLost(span: Span | undefined, windows: readonly LossWindow[]): boolean {
  return span !== undefined && windows.some(({ from, to }) => span.from <= to && from <= span.to);
}

/** From a claim to the first line of its agent, on a busy machine. Seconds. */
const CLAIMED_BEFORE_S = 1;

/** A failover may have lost the claim of the first copy of which this agent has lines: then it is granted again. */
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
  /** Its agents may go on until then: SIGTERM and its patience. */
  readonly limitAt: number;
  /** Three signals. */
  readonly forced: boolean;
  /** With the whole fleet: nobody is left to read its record. */
  readonly last?: true;
  /** Undefined: it did not end within any bound. */
  endedAt?: number;
  code?: number | string;
}

export interface DrillFacts {
  readonly workerId: string;
  readonly passed: boolean;
  readonly outcomes: readonly string[];
  /** The live canaries, when it was answered. */
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
  /** The queue had stored it. */
  readonly accepted: boolean;
  /** From its submit until the queue had answered. */
  readonly span?: Span | undefined;
  readonly executionId?: string | undefined;
  /** How its job ended; absent: not by the end of the seed. */
  readonly job?: { readonly failed: string } | { readonly status: string; readonly costUsd: number };
}

export const identity = ({ pid, startTime }: Pick<Line, 'pid' | 'startTime'>): string =>
  `${pid}:${startTime}`;

/** Parses the record of one execution's agents; a line that was cut short (by a full disk, for example) is left out. */
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
