import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import {
  SOCKET_KEY_VARIABLE,
  SOCKET_VARIABLE,
  type QuestionAnswer,
  type QuestionRequest,
  type StepAnswer,
  type StepRequest,
} from '#libs/contracts';
import { NotReportable } from './reporter';

/** A longer line waits until the worker knows the connection's attempt. Characters. */
const SHORT_LINE = 1_000;

type Answer = StepAnswer & QuestionAnswer;
type Unnumbered<Request> = Request extends unknown ? Omit<Request, 'n' | 'key'> : never;
/** A code, and the sentence for people. */
type Fault = readonly [code: string, message: string];

interface Asked {
  readonly lost: Fault;
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

/**
 * This attempt's connection to its worker, for requests with an answer. It keeps the process alive only while one is awaited.
 */
export class WorkerClient {
  private socket: Socket | undefined;
  private isKnown = false;
  private readonly asked = new Map<number, Asked>();
  private n = 0;

  /** A step. @throws NotReportable: no answer came, or the answer is a refusal */
  async step(request: Unnumbered<StepRequest>): Promise<StepAnswer> {
    return this.send(request, {
      lost: ['STEP_NOT_STORED', 'The worker did not answer; the step may be stored.'],
      noJson: ['STEP_NOT_JSON', `The result of the step ${request.name} is no JSON`],
    });
  }

  /** A question, or the wait for its answer. @throws NotReportable as `step` */
  async question(request: Unnumbered<QuestionRequest>): Promise<QuestionAnswer> {
    return this.send(request, {
      lost: ['ASK_NOT_STORED', 'The worker did not answer; the question may be stored.'],
      noJson: ['ASK_NOT_JSON', 'The detail of the question is no JSON'],
    });
  }

  private async send(request: object, { lost, noJson }: { lost: Fault; noJson: Fault }): Promise<Answer> {
    const text = textOf(request, noJson);
    if (text.length > SHORT_LINE && !this.isKnown) await this.exchange('{"act":"hello"}', lost);
    const answer = await this.exchange(text, lost);
    if (answer.error !== undefined) throw new NotReportable(answer.error.code, answer.error.message);
    return answer;
  }

  private async exchange(text: string, lost: Fault): Promise<Answer> {
    const n = ++this.n;
    const head = JSON.stringify({ n, key: process.env[SOCKET_KEY_VARIABLE] ?? '' });
    const socket = this.open();
    return new Promise<Answer>((resolve, reject) => {
      this.asked.set(n, { lost, resolve, reject });
      socket.ref();
      socket.write(`${head.slice(0, -1)},${text.slice(1)}\n`);
    });
  }

  private open(): Socket {
    if (this.socket !== undefined && !this.socket.destroyed) return this.socket;
    this.isKnown = false;
    const socket = connect(`\0${process.env[SOCKET_VARIABLE] ?? ''}`);
    const lost = (): void => {
      for (const { reject, lost: fault } of this.asked.values()) reject(new NotReportable(...fault));
      this.asked.clear();
    };
    socket.on('error', lost);
    socket.on('close', lost);
    createInterface({ input: socket }).on('line', (line) => {
      this.isKnown = true;
      const answer = JSON.parse(line) as Answer;
      this.asked.get(answer.n)?.resolve(answer);
      this.asked.delete(answer.n);
      if (this.asked.size === 0) socket.unref();
    });
    this.socket = socket;
    return socket;
  }
}

function textOf(request: object, [code, message]: Fault): string {
  try {
    return JSON.stringify(request);
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new NotReportable(code, `${message}: ${why}`);
  }
}
