import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { DENIED, validateAsk, type AskRequest } from '#libs/contracts';
import { collectText } from '../arguments/parse-values';
import { parseTimeout } from '../arguments/parse-duration';
import { requireId } from '../arguments/resolve-id';
import { EXIT, UsageError, type ExitCode } from '../exit-codes';
import { askPeople, type Asked } from '../local/ask-people';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { formatTime } from '../text/format';
import type { Bind } from './action';

interface AskCommandOptions {
  readonly choice?: readonly string[];
  readonly timeout?: number;
  readonly detail?: string;
  readonly key?: string;
  readonly resume?: string;
  readonly freeze?: boolean;
}

export function addAsk(program: Command, bind: Bind): void {
  program
    .command('ask')
    .description('inside an agent: ask people and wait; prints the choice, or denied with exit code 9')
    .argument('[question]', 'one line')
    .option('--choice <text>', 'a possible answer; may be repeated (default: yes and no)', collectText)
    .option(
      '--timeout <duration>',
      'time until it is denied, such as 30s, 15m, 1h (default: 1h)',
      parseTimeout,
    )
    .option('--detail <file>', 'JSON that is shown with the question; - for stdin')
    .option('--key <name>', 'the same words under this name are the same question, for the whole attempt')
    .option('--freeze', 'freeze the whole agent until the answer')
    .option('--resume <id>', 'wait for a question that this attempt has asked before')
    .action(
      bind(async (session, question: string | undefined, options: AskCommandOptions) => {
        const asked = readAsked(question, options);
        const { signal, release, wasInterrupted } = abortOnSignal(session.process);
        try {
          return await askAndShow(session, asked, signal);
        } catch (error) {
          if (wasInterrupted()) return EXIT.interrupted;
          throw error;
        } finally {
          release();
        }
      }),
    );
}

async function askAndShow(session: Session, asked: Asked, signal: AbortSignal): Promise<ExitCode> {
  const { env } = session.process;
  const closed = await askPeople(asked, {
    env,
    signal,
    onStored: ({ id, deadlineAt }) => session.note(`asked ${id}, denied at ${formatTime(deadlineAt)}`),
  });
  const { answer = DENIED } = closed;
  if (session.isJson) session.json(closed);
  else session.print(answer);
  return answer === DENIED ? EXIT.denied : EXIT.ok;
}

/** The command refuses a faulty request before it asks anybody. */
function readAsked(question: string | undefined, options: AskCommandOptions): Asked {
  const { choice, timeout, detail, key, resume, freeze } = options;
  if ((question === undefined) === (resume === undefined))
    throw new UsageError('Give a question, or --resume ID of one that was asked before.');
  if (resume !== undefined) return { id: requireId(resume, 'question') };
  const ask = {
    question,
    ...(choice === undefined ? {} : { choices: choice }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
    ...(detail === undefined ? {} : { detail: readDetail(detail) }),
    ...(key === undefined ? {} : { key }),
    ...(freeze === true ? { whileWaiting: 'freeze' } : {}),
  };
  validateAsk(ask);
  return { ask: ask as AskRequest };
}

function readDetail(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'));
  } catch (error) {
    throw new UsageError(`${file} cannot be read as JSON: ${(error as Error).message}`);
  }
}
