import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import {
  BelayError,
  ERROR_STATUS,
  SOCKET_KEY_VARIABLE,
  SOCKET_VARIABLE,
  type AskRequest,
  type ErrorCode,
  type QuestionAnswer,
  type QuestionRecord,
} from '#libs/contracts';
import { UsageError } from '../exit-codes';

/** A new question, or the id of a question that this attempt has asked. */
export type Asked = { readonly ask: AskRequest } | { readonly id: string };

export interface AskOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** The question is stored: even if this process dies, its id leads to the answer. */
  readonly onStored: (question: QuestionRecord) => void;
}

/**
 * Asks over the socket of the worker whose agent this process belongs to, and waits until the question is closed.
 * @throws UsageError outside of an agent; BelayError where the question is refused; the signal's reason.
 */
export async function askPeople(
  asked: Asked,
  { env, signal, onStored }: AskOptions,
): Promise<QuestionRecord> {
  const { [SOCKET_VARIABLE]: name = '', [SOCKET_KEY_VARIABLE]: key = '' } = env;
  if (name === '' || key === '')
    throw new UsageError('`belay ask` works only inside an agent, whose worker passes the question on.');
  signal.throwIfAborted();
  const socket = connect(`\0${name}`);
  const cut = (): void => void socket.destroy();
  signal.addEventListener('abort', cut, { once: true });
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  // A connection that this process ends only closes, without a last line.
  const failed = new Promise<never>((_resolve, reject) => {
    socket.on('error', reject);
    socket.once('close', () => reject(lost()));
  });
  failed.catch(() => undefined);
  const exchange = async (request: object): Promise<QuestionRecord | undefined> => {
    socket.write(`${JSON.stringify({ n: 1, key, ...request })}\n`);
    const { value, done } = await Promise.race([lines.next(), failed]).catch((error: unknown) => {
      signal.throwIfAborted();
      throw error;
    });
    signal.throwIfAborted();
    if (done === true) throw lost();
    const { question, error, problems = [] } = JSON.parse(value) as QuestionAnswer;
    if (error !== undefined) throw new BelayError(codeOf(error.code), error.message, { problems });
    return question;
  };
  try {
    // The worker accepts a longer line only after the key.
    await exchange({ act: 'hello' });
    let id: string | undefined;
    if ('id' in asked) ({ id } = asked);
    else {
      const stored = await exchange({ act: 'ask', ask: asked.ask });
      if (stored === undefined) throw lost();
      onStored(stored);
      ({ id } = stored);
    }
    const closed = await exchange({ act: 'await', id });
    if (closed === undefined) throw lost();
    return closed;
  } finally {
    signal.removeEventListener('abort', cut);
    socket.destroy();
  }
}

const lost = (): BelayError =>
  new BelayError('OUTCOME_UNKNOWN', 'The worker closed the connection: treat the question as denied.');

/** The worker's error is about storing. To the caller, the outcome is unknown. */
const codeOf = (code: string): ErrorCode =>
  Object.hasOwn(ERROR_STATUS, code) ? (code as ErrorCode) : 'OUTCOME_UNKNOWN';
