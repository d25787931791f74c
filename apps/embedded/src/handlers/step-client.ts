import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { STEPS_KEY_VARIABLE, STEPS_VARIABLE, type StepAnswer, type StepRequest } from '#libs/contracts';
import { NotReportable } from './reporter';

interface Asked {
  resolve(answer: StepAnswer): void;
  reject(error: Error): void;
}

/** This attempt's way to the store of its steps, over its worker. It keeps the process only while an answer is awaited. */
export class StepClient {
  private socket: Socket | undefined;
  private readonly asked = new Map<number, Asked>();
  private n = 0;

  /** @throws NotReportable: no answer came, or it is a refusal */
  async ask(request: Omit<StepRequest, 'n' | 'key'>): Promise<StepAnswer> {
    const n = ++this.n;
    let line: string;
    try {
      line = JSON.stringify({ ...request, n, key: process.env[STEPS_KEY_VARIABLE] ?? '' });
    } catch (error) {
      const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
      throw new NotReportable('STEP_NOT_JSON', `The result of the step ${request.name} is no JSON: ${why}`);
    }
    const socket = this.open();
    const answer = await new Promise<StepAnswer>((resolve, reject) => {
      this.asked.set(n, { resolve, reject });
      socket.ref();
      socket.write(`${line}\n`);
    });
    if (answer.error !== undefined) throw new NotReportable(answer.error.code, answer.error.message);
    return answer;
  }

  private open(): Socket {
    if (this.socket !== undefined && !this.socket.destroyed) return this.socket;
    const socket = connect(`\0${process.env[STEPS_VARIABLE] ?? ''}`);
    const lost = (): void => {
      const error = new NotReportable(
        'STEP_NOT_STORED',
        'The worker did not answer; the step may be stored.',
      );
      for (const { reject } of this.asked.values()) reject(error);
      this.asked.clear();
    };
    socket.on('error', lost);
    socket.on('close', lost);
    createInterface({ input: socket }).on('line', (line) => {
      const answer = JSON.parse(line) as StepAnswer;
      this.asked.get(answer.n)?.resolve(answer);
      this.asked.delete(answer.n);
      if (this.asked.size === 0) socket.unref();
    });
    this.socket = socket;
    return socket;
  }
}
