import type {
  AgentId,
  AgentLogs,
  AgentRecord,
  AgentSpecInput,
  AgentState,
  AnswerRequest,
  ArmedReport,
  AuditEntry,
  AuditVerdict,
  BelayEvent,
  DrillResult,
  DrillStatus,
  ExecutionId,
  ExecutionRecord,
  ExecutionSpecInput,
  ExecutionState,
  KillRequest,
  Latch,
  LatchRequest,
  PendingRelease,
  QuarantinedRecord,
  QuestionId,
  QuestionRecord,
  QueueDetail,
  QueuePaused,
  QueueRecord,
  QueueRemoval,
  RemoveRequest,
  LatchId,
  LimitsRecord,
  LimitsRequest,
  LogFile,
  LogLine,
  NodeRecord,
  NodeState,
  OrderId,
  OutputSize,
  Page,
  PauseRequest,
  Receipt,
  RetryRequest,
  ScopeWarning,
  Signalled,
  StopRequest,
  StopResponse,
  CreatedToken,
  DeletedExecution,
  RevokedToken,
  TokenRecord,
  TokenRequest,
  WorkerId,
  WebhookDelivery,
  WebhookRecord,
  WorkerRecord,
} from '#libs/contracts';

export type {
  AgentLogs,
  AgentSpecInput,
  ExecutionSpecInput,
  KillRequest,
  LatchRequest,
  LogLine,
  Page,
  PauseRequest,
  RetryRequest,
  StopRequest,
} from '#libs/contracts';

/** How a client is made. */
export interface ClientOptions {
  /** The orchestrator's address, such as `http://127.0.0.1:7070`, or several of one fleet; the first is tried first. */
  readonly url: string | readonly string[];
  /** Sent as `Authorization: Bearer`; without it every route but health answers UNAUTHORIZED. */
  readonly token?: string;
  /** Used instead of Node's own, for tests and proxies. */
  readonly fetch?: typeof globalThis.fetch;
  /** The time limit of one call that does not wait for a stop. Default 30 s. Milliseconds. */
  readonly timeoutMs?: number;
  /** How long a submit, a start or a stop is repeated after its reply was lost. Default 15 s; 0: never. Milliseconds. */
  readonly repeatForMs?: number;
}

export interface CallOptions {
  /** Ends the call early. The call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface PageQuery extends CallOptions {
  readonly cursor?: string;
  readonly limit?: number;
}

export interface ExecutionQuery extends PageQuery {
  readonly state?: readonly ExecutionState[];
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ReceiptQuery extends PageQuery {
  /** Only receipts that are neither complete nor closed by a person, however old. */
  readonly unproved?: boolean;
}

export interface WorkerQuery extends CallOptions {
  /** Lists workers whose lease ran out within the last hour, the latest first, instead of those that are not stopped. */
  readonly lost?: boolean;
}

export interface QuestionQuery extends PageQuery {
  /** All questions of this execution, closed ones too. Default: the open ones of the fleet. */
  readonly executionId?: ExecutionId;
}

export interface NodeQuery extends PageQuery {
  readonly state?: readonly NodeState[];
}

export interface AgentQuery extends PageQuery {
  readonly state?: readonly AgentState[];
  readonly owner?: WorkerId;
  readonly executionId?: ExecutionId;
}

export interface CreateOptions extends CallOptions {
  /** False leaves the execution idle until `start`. Default true. */
  readonly start?: boolean;
  /**
   * False: the submit is refused with LIMITED where a limit keeps its first nodes from starting now. Default true: it waits.
   */
  readonly queue?: boolean;
}

export interface CreatedExecution {
  readonly execution: ExecutionRecord;
  /** True when the idempotency key named an execution that existed already. */
  readonly replayed: boolean;
}

export interface DrillReport {
  /** True only when there was a worker and every drill passed. */
  readonly passed: boolean;
  readonly items: readonly DrillResult[];
}

/** The answer to a release. */
export interface Released {
  readonly latch: Latch;
  /** The latch had been released before, and nothing was changed. */
  readonly already: boolean;
  /** The latch stays engaged until another person releases it. `already`: this person had approved before. */
  readonly pending?: PendingRelease;
  /** The receipt of the order that thaws a freeze's agents. */
  readonly receipt?: Receipt;
}

/** The answer to a pause or a resume. */
export interface Paused {
  readonly execution: ExecutionRecord;
  /** The receipt of the order that froze or thawed the execution's agents. */
  readonly receipt?: Receipt;
}

/** The answer with `?wait=0`: the order is durable, and its outcome is not known yet. */
export interface StopAccepted {
  readonly orderId?: OrderId;
  readonly executionId: ExecutionId;
  readonly status: ExecutionState;
}

/** The answer to a dry run: the targets, with nothing done to them. */
export interface KillPlan {
  readonly targets: readonly {
    readonly agentId: AgentId;
    readonly executionId: ExecutionId;
    readonly nodeId: string;
    readonly workerId: WorkerId;
  }[];
  readonly executions: readonly ExecutionId[];
  /** Present for a selector that matches nothing. */
  readonly warning?: ScopeWarning;
}

/** A node with its result. */
export type NodeDetail = NodeRecord & { readonly result?: unknown };

/** The answer of GET /health; a 503 is an answer, not an error. */
export interface Health {
  readonly ok: boolean;
  readonly status: number;
  readonly state: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface FollowOptions {
  /** Resume after this id. */
  readonly lastEventId?: string;
  /** Ends the iteration quietly. */
  readonly signal?: AbortSignal;
  /** The connection was lost. The next try comes after `delayMs`. */
  readonly onReconnect?: (lost: { readonly error: unknown; readonly delayMs: number }) => void;
  /** The execution waits for a signal; the stream is opened again every few seconds. */
  readonly onSuspended?: () => void;
  /** The id was older than the kept events. Events are missing, so read the records again. */
  readonly onReset?: (data: unknown) => void;
  /** An outage may last this long before the iteration throws. Default 60 s. Milliseconds. */
  readonly giveUpAfterMs?: number;
}

/** The events of all executions that a caller wants; default: all that its token may see. */
export interface AllEventsQuery extends FollowOptions {
  /** Types, such as `execution.failed`, or whole entities: `execution`, `node`, `agent`, `ask`. */
  readonly type?: readonly string[];
  /** Only changes to these states. */
  readonly state?: readonly string[];
  /** Conditions on the labels of the execution, such as `team=data,env!=prod`. */
  readonly selector?: string;
  /**
   * The position after everything that was handled so far, as `lastEventId` of a later call. It is called once the event before
   * it has been handled.
   */
  readonly onPosition?: (id: string) => void;
}

/** The facts known once an agent's output has ended. */
export interface LogEnd {
  /** Output after the last kept line that the server does not keep. */
  readonly skipped?: OutputSize;
  /** The file with the whole output. */
  readonly file?: LogFile;
}

export interface FollowLogsOptions extends FollowOptions {
  readonly onEnd?: (end: LogEnd) => void;
}

/** One method per route. Every method rejects with a BelayError that carries the server's code. */
export interface BelayClient {
  /** The address of the orchestrator that is used now. */
  readonly url: string;

  createExecution(spec: ExecutionSpecInput, options?: CreateOptions): Promise<CreatedExecution>;
  executions(query?: ExecutionQuery): Promise<Page<ExecutionRecord>>;
  execution(id: ExecutionId, options?: CallOptions): Promise<ExecutionRecord>;
  nodes(id: ExecutionId, query?: NodeQuery): Promise<Page<NodeRecord>>;
  node(id: ExecutionId, nodeId: string, options?: CallOptions): Promise<NodeDetail>;
  start(id: ExecutionId, options?: CallOptions): Promise<ExecutionRecord>;
  /** Resolves when the execution has ended, with the receipt. */
  stop(id: ExecutionId, request?: StopRequest, options?: CallOptions): Promise<StopResponse>;
  /**
   * Removes an ended execution, with its events, its results and the logs of its agents.
   * @throws BelayError NOT_FOUND · NOT_ENDED · NOT_PROVED · ORDER_OPEN
   */
  deleteExecution(id: ExecutionId, options?: CallOptions): Promise<DeletedExecution>;
  /** Resolves when the order is durable. */
  stopWithoutWaiting(id: ExecutionId, request?: StopRequest, options?: CallOptions): Promise<StopAccepted>;
  /** Every event of one execution, once and in order, across lost connections. Ends after the terminal event. */
  events(id: ExecutionId, options?: FollowOptions): AsyncIterable<BelayEvent>;
  /**
   * The events of all executions from now on, or from after `lastEventId`: each once, those of one execution in order, across
   * lost connections. Does not end by itself. `onReset`: events are missing, so list the executions again.
   */
  allEvents(query?: AllEventsQuery): AsyncIterable<BelayEvent>;
  /** Resolves with the record once the execution has ended. */
  waitForEnd(id: ExecutionId, options?: FollowOptions): Promise<ExecutionRecord>;

  createAgent(spec: AgentSpecInput, options?: CallOptions): Promise<ExecutionRecord>;
  agents(query?: AgentQuery): Promise<Page<AgentRecord>>;
  agent(id: AgentId, options?: CallOptions): Promise<AgentRecord>;
  killAgent(id: AgentId, request?: Omit<StopRequest, 'reason'>, options?: CallOptions): Promise<Receipt>;
  logs(id: AgentId, options?: CallOptions & { readonly follow?: false }): Promise<AgentLogs>;
  /** Every line, then new ones as they come. Ends when the agent has ended. */
  logs(id: AgentId, options: FollowLogsOptions & { readonly follow: true }): AsyncIterable<LogLine>;

  /** Resolves when the receipt is complete or the server's limit has passed. */
  kill(request: KillRequest, options?: CallOptions): Promise<Receipt>;
  /** Resolves when the order is durable, with a receipt not yet complete. */
  killWithoutWaiting(request: KillRequest, options?: CallOptions): Promise<Receipt>;
  planKill(request: KillRequest, options?: CallOptions): Promise<KillPlan>;
  /** Newest first. */
  receipts(query?: ReceiptQuery): Promise<Page<Receipt>>;
  receipt(orderId: OrderId, options?: CallOptions): Promise<Receipt>;
  /** Resolves when the receipt is complete or the server's limit has passed. */
  waitForReceipt(orderId: OrderId, options?: CallOptions): Promise<Receipt>;
  /** Declares that the missing confirmations of a receipt will not come: Belay stops looking for them. */
  closeOrder(orderId: OrderId, note: string, options?: CallOptions): Promise<Receipt>;
  /** Resolves when nothing in the scope starts any more. */
  engageLatch(request: LatchRequest, options?: CallOptions): Promise<Latch>;
  /** The engaged latches, oldest first. */
  latches(options?: CallOptions): Promise<Page<Latch>>;
  limits(options?: CallOptions): Promise<LimitsRecord>;
  /** Replaces all limits. Resolves when no claim exceeds them any more. */
  setLimits(request: LimitsRequest, options?: CallOptions): Promise<LimitsRecord>;
  /** Questions that agents ask people; open ones by their deadlines. */
  asks(query?: QuestionQuery): Promise<Page<QuestionRecord>>;
  ask(id: QuestionId, options?: CallOptions): Promise<QuestionRecord>;
  /** Resolves when the answer is stored. @throws BelayError QUESTION_CLOSED · QUESTION_CHANGED */
  answer(id: QuestionId, request: AnswerRequest, options?: CallOptions): Promise<QuestionRecord>;
  /** The queues of pools, by name. */
  queues(options?: CallOptions): Promise<Page<QueueRecord>>;
  queue(pool: string, options?: CallOptions): Promise<QueueDetail>;
  /** Resolves when no attempt of the pool starts any more; running agents go on. */
  pauseQueue(pool: string, request?: { readonly note?: string }, options?: CallOptions): Promise<QueuePaused>;
  resumeQueue(
    pool: string,
    request?: { readonly note?: string },
    options?: CallOptions,
  ): Promise<QueuePaused>;
  /** Removes waiting attempts, at most 5,000 a call. With `dryRun` it only counts them. */
  removeFromQueue(
    pool: string,
    request: RemoveRequest,
    options?: CallOptions & { readonly dryRun?: boolean },
  ): Promise<QueueRemoval>;
  /** Stored records that cannot be read, oldest first. */
  /** The endpoints that are told of events, by name. */
  webhooks(options?: CallOptions): Promise<Page<WebhookRecord>>;
  /** The newest deliveries to one endpoint. @throws BelayError NOT_FOUND */
  webhookDeliveries(name: string, options?: CallOptions): Promise<Page<WebhookDelivery>>;
  quarantine(options?: CallOptions): Promise<Page<QuarantinedRecord>>;
  latch(id: LatchId, options?: CallOptions): Promise<Latch>;
  /** Releases a latch, with the reason. The agents of a freeze go on. `pending` in the answer: another person is needed. */
  releaseLatch(id: LatchId, note: string, options?: CallOptions): Promise<Released>;
  pause(id: ExecutionId, request?: PauseRequest, options?: CallOptions): Promise<Paused>;
  resume(id: ExecutionId, options?: CallOptions): Promise<Paused>;
  /**
   * Goes on with a stopped or failed execution; completed nodes keep their results. `force`: although a lost attempt may still
   * run.
   */
  retryExecution(id: ExecutionId, request?: RetryRequest, options?: CallOptions): Promise<ExecutionRecord>;
  /** Wakes the nodes that wait for that signal with a payload. A signal for which no node waits yet is kept. */
  signal(id: ExecutionId, name: string, payload?: unknown, options?: CallOptions): Promise<Signalled>;
  /** All tokens by name, revoked and expired ones too. */
  tokens(options?: CallOptions): Promise<Page<TokenRecord>>;
  /** Only this answer contains the secret. */
  createToken(request: TokenRequest, options?: CallOptions): Promise<CreatedToken>;
  /** Resolves when no orchestrator accepts the token any more. */
  revokeToken(name: string, options?: CallOptions): Promise<RevokedToken>;
  /** Newest first. */
  audit(query?: PageQuery): Promise<Page<AuditEntry>>;
  verifyAudit(options?: CallOptions): Promise<AuditVerdict>;
  /** Kills canary trees over the real path, on one worker or on every running one. With `hostile`, an agent attacks Belay. */
  drill(workerId?: WorkerId, options?: CallOptions & { readonly hostile?: boolean }): Promise<DrillReport>;
  drills(options?: CallOptions): Promise<Page<DrillStatus>>;
  /** Whether every worker could stop now. */
  armed(options?: CallOptions): Promise<ArmedReport>;

  workers(query?: WorkerQuery): Promise<Page<WorkerRecord>>;
  health(options?: CallOptions): Promise<Health>;
}
