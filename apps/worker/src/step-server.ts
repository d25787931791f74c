import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import {
  isBelayError,
  MAX_MESSAGE_BYTES,
  MAX_STEP_NAME,
  MAX_STEPS,
  SPEC_LIMITS,
  STEPS_KEY_VARIABLE,
  STEPS_VARIABLE,
  type StepAnswer,
  type StepRequest,
} from '#libs/contracts';
import type { AgentStore, Fence, StepAct } from '#libs/lifecycle';
import { retryTransient } from '#libs/valkey';

/** How long a step waits for a server that is away. Milliseconds. */
const PATIENCE_MS = 10_000;

/** Each handler has one. */
const MOST_CONNECTIONS = 10_000;
/**
 * Every process of the machine can connect. So a connection holds no more than this, and for no longer, until it has shown a key: a
 * step begins with a short line. Bytes, milliseconds.
 */
const MAX_BYTES_BEFORE_KEY = 4_096;
const KEY_WITHIN_MS = 30_000;

interface Admitted {
  readonly fence: Fence;
  readonly names: Set<string>;
}

/**
 * Stores the steps of this worker's handlers, and answers once they are stored. Each attempt has a key of its own, so that one cannot
 * speak for another; the store fences it all the same.
 */
export class StepServer {
  private readonly admitted = new Map<string, Admitted>();
  private readonly keys = new Map<string, string>();
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly agents: Pick<AgentStore, 'step'>,
    private readonly server: Server,
    private readonly name: string,
  ) {
    server.maxConnections = MOST_CONNECTIONS;
    server.on('connection', (socket) => this.serve(socket));
    // The end of a connection tells its handler that it failed.
    server.on('error', () => undefined);
  }

  static async listen(agents: Pick<AgentStore, 'step'>): Promise<StepServer> {
    // An abstract socket: it has no file, so nothing of it is left after a kill -9. An agent may have a user of its own; the key
    // is what admits it.
    const name = `belay-steps-${randomBytes(16).toString('hex')}`;
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`\0${name}`, resolve);
    });
    return new StepServer(agents, server, name);
  }

  /** The variables by which one attempt finds it. */
  admit(fence: Fence): Record<string, string> {
    const key = randomBytes(16).toString('hex');
    this.admitted.set(key, { fence, names: new Set() });
    this.keys.set(fence.agentId, key);
    return { [STEPS_VARIABLE]: this.name, [STEPS_KEY_VARIABLE]: key };
  }

  forget(agentId: string): void {
    const key = this.keys.get(agentId);
    this.keys.delete(agentId);
    if (key !== undefined) this.admitted.delete(key);
  }

  close(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => undefined);
    let waiting = 0;
    let most = MAX_BYTES_BEFORE_KEY;
    const patience = setTimeout(() => socket.destroy(), KEY_WITHIN_MS).unref();
    socket.once('close', () => clearTimeout(patience));
    socket.on('data', (chunk: Buffer) => {
      waiting = chunk.includes(10) ? chunk.length - chunk.lastIndexOf(10) : waiting + chunk.length;
      if (waiting > most) socket.destroy();
    });
    const onKey = (): void => {
      most = MAX_MESSAGE_BYTES;
      clearTimeout(patience);
    };
    this.answerAll(socket, onKey).catch(() => undefined);
  }

  /** One after the other: an attempt that asks faster than is stored waits in its own pipe. */
  private async answerAll(socket: Socket, onKey: () => void): Promise<void> {
    for await (const line of createInterface({ input: socket })) {
      const answer = await this.answer(line, onKey);
      if (answer === undefined) break;
      socket.write(`${JSON.stringify(answer)}\n`);
    }
    socket.destroy();
  }

  /** Undefined: it is not of an attempt that runs here. Never rejects. */
  private async answer(line: string, onKey: () => void): Promise<StepAnswer | undefined> {
    const request = parse(line);
    const attempt = this.admitted.get(request?.key ?? '');
    if (request === undefined || attempt === undefined) return undefined;
    onKey();
    const { n } = request;
    const refuse = (code: string, message: string): StepAnswer => ({ n, error: { code, message } });
    const { name, act } = request;
    if (typeof name !== 'string' || name === '' || name.length > MAX_STEP_NAME)
      return refuse('STEP_NAME', `The name of a step has 1 to ${MAX_STEP_NAME} characters.`);
    if (line.length > SPEC_LIMITS.maxResultBytes)
      return refuse(
        'STEP_TOO_LARGE',
        `The result of the step ${name} is larger than ${SPEC_LIMITS.maxResultBytes} bytes; store it elsewhere and return a reference.`,
      );
    if (!attempt.names.has(name) && attempt.names.size === MAX_STEPS)
      return refuse('TOO_MANY_STEPS', `One attempt has at most ${MAX_STEPS} steps.`);
    attempt.names.add(name);
    try {
      const state = await retryTransient(
        async () => this.agents.step(attempt.fence, name, actOf(request)),
        PATIENCE_MS,
      );
      return { n, ...state };
    } catch (error) {
      const code = isBelayError(error) ? error.code : 'OTHER';
      return refuse('STEP_NOT_STORED', `The step ${name} (${act}) could not be stored: ${code}.`);
    }
  }
}

function parse(line: string): StepRequest | undefined {
  try {
    const parsed = JSON.parse(line) as unknown;
    return typeof parsed === 'object' && parsed !== null ? (parsed as StepRequest) : undefined;
  } catch {
    return undefined;
  }
}

function actOf({ act, isIdempotent = false, result }: StepRequest): StepAct {
  return act === 'done' ? { act, result } : { act: 'begin', isIdempotent };
}
