import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import {
  isBelayError,
  MAX_MESSAGE_BYTES,
  MAX_STEP_NAME,
  MAX_STEPS,
  parseQuestionId,
  SOCKET_KEY_VARIABLE,
  SOCKET_VARIABLE,
  SPEC_LIMITS,
  validateAsk,
  type ErrorCode,
  type QuestionAnswer,
  type QuestionRequest,
  type StepAnswer,
  type StepRequest,
} from '#libs/contracts';
import type { AgentStore, Fence, QuestionStore, StepAct } from '#libs/lifecycle';
import type { AgentDoor } from '#libs/spawner';
import { isFull, retryTransient } from '#libs/valkey';
import { QuestionDesk } from './question-desk';

/** A step or a question waits this long for a server that is away. Milliseconds. */
const PATIENCE_MS = 10_000;

/** Connections of agents: each handler has one, each `belay ask` another. */
const MOST_CONNECTIONS = 10_000;
/** One attempt must not take the connections of the others. */
const MOST_OF_ATTEMPT = 200;
/** Answers that one attempt waits for, or has not read, at a time. */
const MOST_WAITS = 200;
/**
 * Every process of the machine can connect. So a connection may send no more than this, and take no longer, before it has shown
 * a key: a step begins with a short line, a question with a greeting. Bytes, milliseconds.
 */
const MAX_BYTES_BEFORE_KEY = 4_096;
const KEY_WITHIN_MS = 30_000;
/** Beyond these the oldest connection without a key makes room, unless it is young: an agent sends its key at once. */
const MOST_WITHOUT_KEY = 64;
const YOUNG_MS = 200;
/** Beyond these a young one makes room too. */
const MOST_YOUNG = 1_000;
const NEWLINE = 0x0a;

interface Admitted {
  readonly fence: Fence;
  readonly names: Set<string>;
  /** The number of its requests for a question so far. */
  asked: number;
  connections: number;
  waits: number;
}

/** The stores that it uses for the agents. */
export interface AgentServerStores {
  readonly agents: Pick<AgentStore, 'step'>;
  readonly questions: Pick<QuestionStore, 'ask' | 'many'>;
}

export interface AgentServerOptions {
  readonly onError?: (error: unknown) => void;
  /** Connections that have shown a key. Default: 10,000, and at most half of the descriptors that this process may open. */
  readonly most?: number;
  /** Freezes an agent's tree under that name, or ends that freeze. Default: nothing is frozen. */
  readonly hold?: (agentId: string, name: string, isFrozen: boolean) => Promise<void>;
}

type Request =
  { readonly act: 'hello'; readonly n: number; readonly key: string } | StepRequest | QuestionRequest;
type Answer = { readonly n: number } | StepAnswer | QuestionAnswer;

/** One connection of an agent. */
interface Caller {
  /** The key was shown: the connection may send longer lines. */
  readonly onKey: () => void;
  /** Aborted at the end of the connection. */
  readonly gone: AbortSignal;
  /** Resolves once the kernel has the answer, or the connection has ended. An agent that does not read holds it up. */
  readonly reply: (answer: Answer) => Promise<void>;
  attempt?: Admitted;
}

/**
 * Answers this worker's agents: stores the steps of handlers, and agents' questions to people. Each attempt has a key of its
 * own, so that no other can speak for it; the store fences it as well. No line over this socket can answer a question.
 */
export class AgentServer implements AgentDoor {
  private readonly admitted = new Map<string, Admitted>();
  private readonly keys = new Map<string, string>();
  private readonly sockets = new Set<Socket>();
  /** The connections that have shown no key, oldest first, with the time of each. */
  private readonly withoutKey = new Map<Socket, number>();
  private makesRoom: NodeJS.Timeout | undefined;
  private readonly most: number;
  private readonly desk: QuestionDesk;
  /**
   * An abstract socket has no file, so nothing of it is left after a kill -9. An agent may have a user of its own; the key
   * admits it.
   */
  private readonly name = `belay-agents-${randomBytes(16).toString('hex')}`;
  private readonly server: Server;

  constructor(
    private readonly stores: AgentServerStores,
    private readonly options: AgentServerOptions = {},
  ) {
    this.desk = new QuestionDesk(stores.questions, (error) => options.onError?.(error));
    this.most = options.most ?? Math.min(MOST_CONNECTIONS, Math.floor(mostDescriptors() / 2));
    this.server = createServer((socket) => this.serve(socket));
  }

  /** Opens the socket; before the worker takes work. */
  async listen(): Promise<void> {
    const { server } = this;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`\0${this.name}`, resolve);
    });
    // The end of a connection tells its agent of the failure.
    server.on('error', () => undefined);
  }

  /** The variables with which one attempt finds the socket. */
  admit(fence: Fence): Record<string, string> {
    const key = randomBytes(16).toString('hex');
    this.admitted.set(key, { fence, names: new Set(), asked: 0, connections: 0, waits: 0 });
    this.keys.set(fence.agentId, key);
    return { [SOCKET_VARIABLE]: this.name, [SOCKET_KEY_VARIABLE]: key };
  }

  forget(agentId: string): void {
    const key = this.keys.get(agentId);
    this.keys.delete(agentId);
    if (key !== undefined) this.admitted.delete(key);
  }

  close(): void {
    this.server.close();
    this.desk.close();
    clearTimeout(this.makesRoom);
    for (const socket of this.sockets) socket.destroy();
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    this.withoutKey.set(socket, performance.now());
    socket.on('close', () => {
      this.sockets.delete(socket);
      this.withoutKey.delete(socket);
    });
    socket.on('error', () => undefined);
    this.makeRoom();
    let most = MAX_BYTES_BEFORE_KEY;
    const patience = setTimeout(() => socket.destroy(), KEY_WITHIN_MS).unref();
    socket.once('close', () => clearTimeout(patience));
    const left = new AbortController();
    // One listener for each pending answer.
    setMaxListeners(0, left.signal);
    const caller: Caller = {
      onKey: () => {
        this.withoutKey.delete(socket);
        most = MAX_MESSAGE_BYTES;
        clearTimeout(patience);
      },
      gone: left.signal,
      reply: async (answer) =>
        new Promise((resolve) => socket.write(`${JSON.stringify(answer)}\n`, () => resolve())),
    };
    socket.once('close', () => {
      left.abort();
      if (caller.attempt !== undefined) caller.attempt.connections--;
    });
    const lines = linesOf(socket, () => most);
    this.answerAll(lines, caller)
      .catch(() => undefined)
      .finally(() => socket.destroy());
  }

  /** Every process of the machine can connect, so however many connections are silent, one with a key is served. */
  private makeRoom(): void {
    clearTimeout(this.makesRoom);
    const { withoutKey } = this;
    for (const [socket, since] of withoutKey) {
      if (withoutKey.size <= MOST_WITHOUT_KEY) return;
      if (withoutKey.size <= MOST_YOUNG && performance.now() - since < YOUNG_MS) break;
      withoutKey.delete(socket);
      socket.destroy();
    }
    this.makesRoom = setTimeout(() => this.makeRoom(), YOUNG_MS + 1).unref();
  }

  /** Whether the attempt has room for this connection, which then counts as its own. */
  private isTaken(caller: Caller, attempt: Admitted): boolean {
    if (caller.attempt !== undefined) return caller.attempt === attempt;
    if (attempt.connections === MOST_OF_ATTEMPT) return false;
    if (this.sockets.size - this.withoutKey.size >= this.most) return false;
    attempt.connections++;
    caller.attempt = attempt;
    caller.onKey();
    return true;
  }

  /**
   * One after the other, each once the agent has read the answer before: an attempt that sends faster than the store writes, or
   * than it reads, waits in its own pipe. People's answers come at any time.
   */
  private async answerAll(lines: AsyncIterable<string>, caller: Caller): Promise<void> {
    for await (const line of lines) {
      const request = parse(line);
      const attempt = this.admitted.get(request?.key ?? '');
      if (request === undefined || attempt === undefined || !this.isTaken(caller, attempt)) return;
      const answer =
        request.act === 'await'
          ? this.beginWait(attempt, request, caller)
          : await this.answer(attempt, request, line.length);
      if (answer !== undefined) await caller.reply(answer);
    }
  }

  /** Never rejects. */
  private async answer(
    attempt: Admitted,
    request: Exclude<Request, { readonly act: 'await' }>,
    bytes: number,
  ): Promise<Answer> {
    if (request.act === 'hello') return { n: request.n };
    return request.act === 'ask' ? this.ask(attempt, request) : this.step(attempt, request, bytes);
  }

  private async step(attempt: Admitted, request: StepRequest, bytes: number): Promise<StepAnswer> {
    const { n } = request;
    const refuse = (code: string, message: string): StepAnswer => ({ n, error: { code, message } });
    const { name, act } = request;
    if (typeof name !== 'string' || name === '' || name.length > MAX_STEP_NAME)
      return refuse('STEP_NAME', `The name of a step has 1 to ${MAX_STEP_NAME} characters.`);
    if (bytes > SPEC_LIMITS.maxResultBytes)
      return refuse(
        'STEP_TOO_LARGE',
        `The result of the step ${name} is larger than ${SPEC_LIMITS.maxResultBytes} bytes; store it elsewhere and return a reference.`,
      );
    if (!attempt.names.has(name) && attempt.names.size === MAX_STEPS)
      return refuse('TOO_MANY_STEPS', `One attempt has at most ${MAX_STEPS} steps.`);
    attempt.names.add(name);
    try {
      const state = await retryTransient(
        async () => this.stores.agents.step(attempt.fence, name, actOf(request)),
        PATIENCE_MS,
      );
      return { n, ...state };
    } catch (error) {
      if (isFull(isBelayError(error) ? error.cause : error))
        return refuse(
          'SERVER_FULL',
          `The step ${name} (${act}) could not be stored: the memory of the state server is full.`,
        );
      const code = isBelayError(error) ? error.code : 'OTHER';
      return refuse('STEP_NOT_STORED', `The step ${name} (${act}) could not be stored: ${code}.`);
    }
  }

  private async ask(
    attempt: Admitted,
    { n, ask }: Extract<QuestionRequest, { readonly act: 'ask' }>,
  ): Promise<QuestionAnswer> {
    try {
      const checked = validateAsk(ask);
      const number = ++attempt.asked;
      const question = await retryTransient(
        async () => this.stores.questions.ask(attempt.fence, number, checked),
        PATIENCE_MS,
      );
      return { n, question };
    } catch (error) {
      if (isBelayError(error) && TOLD.has(error.code))
        return { n, error: { code: error.code, message: error.message }, problems: error.problems };
      const code = isBelayError(error) ? error.code : 'OTHER';
      return { n, error: { code: 'ASK_NOT_STORED', message: `The question could not be stored: ${code}.` } };
    }
  }

  /** The refusal, or undefined where the wait has begun. An agent can wait only for questions of its own attempt. */
  private beginWait(
    attempt: Admitted,
    { n, id }: Extract<QuestionRequest, { readonly act: 'await' }>,
    caller: Caller,
  ): QuestionAnswer | undefined {
    const refuse = (code: string, message: string): QuestionAnswer => ({ n, error: { code, message } });
    if (typeof id !== 'string' || parseQuestionId(id)?.agentId !== attempt.fence.agentId)
      return refuse('NOT_FOUND', 'This attempt has not asked that question.');
    if (attempt.waits === MOST_WAITS)
      return refuse('RATE_LIMITED', `One attempt waits for at most ${MOST_WAITS} answers at a time.`);
    attempt.waits++;
    // An answer that the agent has not read takes memory, so it still counts as a wait.
    void this.waitFor(attempt, n, id, caller).finally(() => attempt.waits--);
    return undefined;
  }

  /** Never rejects. */
  private async waitFor(attempt: Admitted, n: number, id: string, { gone, reply }: Caller): Promise<void> {
    const question = await this.standingStill(attempt, id, async () => this.desk.closed(id, gone));
    if (question !== undefined) return reply({ n, question });
    const message = 'The question no longer exists: treat it as denied.';
    return reply({ n, error: { code: 'NOT_FOUND', message } });
  }

  /**
   * If the tree must be frozen during the wait, it is frozen before the wait begins, and thawed before the answer. Never
   * rejects.
   */
  private async standingStill<T>({ fence }: Admitted, id: string, wait: () => Promise<T>): Promise<T> {
    const [question] = await this.stores.questions.many([id]).catch(() => []);
    if (question?.state !== 'open' || question.whileWaiting !== 'freeze') return wait();
    await this.hold(fence, id, true);
    const closed = await wait();
    await this.hold(fence, id, false);
    return closed;
  }

  private async hold({ agentId }: Fence, id: string, isFrozen: boolean): Promise<void> {
    await this.options.hold?.(agentId, id, isFrozen).catch((error: unknown) => this.options.onError?.(error));
  }
}

/** Descriptors that this process may open. Signals and proofs need some of them. */
function mostDescriptors(): number {
  const text = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return Number(text ?? Number.POSITIVE_INFINITY);
}

/**
 * The lines of a connection; ends at a line longer than `most()` bytes. Reads nothing while the caller works on a line, so that
 * only one line and one chunk are in memory.
 */
async function* linesOf(socket: Socket, most: () => number): AsyncGenerator<string> {
  // The beginning of a line: few pieces, each longer than the next, however small the chunks are.
  let pieces: Buffer[] = [];
  let bytes = 0;
  const hold = (piece: Buffer): void => {
    bytes += piece.length;
    let merged = piece;
    for (let last = pieces.at(-1); last !== undefined && last.length <= merged.length; last = pieces.at(-1)) {
      merged = Buffer.concat([last, merged]);
      pieces.pop();
    }
    pieces.push(merged);
  };
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      hold(chunk.subarray(from, end));
      if (bytes > most()) return;
      const line = Buffer.concat(pieces).toString();
      from = end + 1;
      pieces = [];
      bytes = 0;
      yield line;
    }
    hold(chunk.subarray(from));
    if (bytes > most()) return;
  }
}

/** Faults that the asker can mend. */
const TOLD: ReadonlySet<ErrorCode> = new Set(['INVALID_REQUEST', 'TOO_MANY_QUESTIONS']);

function parse(line: string): Request | undefined {
  try {
    const parsed = JSON.parse(line) as unknown;
    return typeof parsed === 'object' && parsed !== null ? (parsed as Request) : undefined;
  } catch {
    return undefined;
  }
}

function actOf({ act, isIdempotent = false, result }: StepRequest): StepAct {
  return act === 'done' ? { act, result } : { act: 'begin', isIdempotent };
}
