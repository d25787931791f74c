import 'reflect-metadata';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { ModulesContainer, NestFactory } from '@nestjs/core';
import type { JobInput } from '#libs/executions';
import { killableJobOf } from '../processors/killable-job';
import { attemptInput } from './attempt-input';
import { contextOf, type AgentContext, type AgentFacts } from './agent-context';
import { declaredBy, type DeclaredHandler } from './agent-handler';
import { describeFailure, Failure } from './failure';
import { becomeHandlerProcess } from './handler-process';
import { NotReportable, report } from './reporter';
import { checkAgainst } from './standard-schema';
import { Suspended } from './suspended';

/** The application's own shutdown hooks may take this long after the end is reported. Milliseconds. */
const CLOSE_MS = 2_000;

interface HandlerTarget {
  /** The file of the application's module. */
  readonly file: string;
  readonly exported: string;
  /** Undefined for a process that is started ahead. */
  readonly name: string | undefined;
}

type Handle = (input: unknown, context: AgentContext) => unknown;

interface Input extends Pick<
  AgentFacts,
  'upstream' | 'attempt' | 'isRecovery' | 'lastCheckpoint' | 'earlierEvents'
> {
  readonly input: unknown;
  readonly signal?: AgentFacts['wokenBy'];
}

/**
 * The program of one attempt of a handler: `handler-main.js MODULE EXPORT NAME`. It makes the application's module, runs the
 * handler, reports on file descriptor 3 and ends. Exit codes: 0 its result is reported, 1 its error is.
 *
 * Without NAME it is started ahead of its attempt: it makes the module, reports that it waits, and gets the attempt on its
 * stdin. Until then it reports nothing else, since no attempt has failed.
 */
const [, , file = '', exported = '', given] = process.argv;

/** Only the first end is reported: a handler that fails after its result no longer fails its attempt. */
let isTold = given === undefined;

/** Runs one attempt from its input on stdin to its report, and ends the process. */
async function runHandler(target: HandlerTarget): Promise<void> {
  const stopping = new AbortController();
  let isHeard = false;
  process.on('SIGTERM', () => {
    const reason = new Error('Belay is stopping this agent.');
    stopping.abort(reason);
    // A handler that does not use the signal would only use up the grace.
    if (!isHeard) leave(reason);
  });
  const signal = (): AbortSignal => {
    isHeard = true;
    return stopping.signal;
  };
  process.on('uncaughtException', (error) => leave(error));
  // Also when the handler calls process.exit, or when no work is left that could finish it.
  process.on('exit', () => {
    if (isTold) return;
    tell(new Failure('HANDLER_EXITED', 'The process of the handler ended before the handler did.'));
    process.exitCode = 1;
  });
  let app: INestApplicationContext | undefined;
  try {
    const { name: known } = target;
    const early = known === undefined ? await makeApplication(target) : undefined;
    app = early;
    const { text, name } = await attemptInput(known, {
      stdin: () => process.stdin,
      exit: (code) => process.exit(code),
    });
    isTold = false;
    const { input, signal: wokenBy, ...facts } = JSON.parse(text) as Input;
    app = early ?? (await makeApplication(target));
    const { handle, options } = find(app, name);
    const checked = await checkAgainst(options.input, input);
    if (checked.problem !== undefined) throw new Failure('INPUT_MISMATCH', `Its input: ${checked.problem}`);
    const result = await handle(
      checked.value,
      contextOf({ ...facts, wokenBy, ...fromEnvironment() }, signal),
    );
    const right = await checkAgainst(options.result, result);
    if (right.problem !== undefined) throw new Failure('RESULT_MISMATCH', `Its result: ${right.problem}`);
    if (right.value !== undefined) report({ type: 'result', value: right.value });
    isTold = true;
  } catch (error) {
    if (error instanceof Suspended) isTold = true;
    else {
      tell(error);
      process.exitCode = 1;
    }
  }
  await closeWithin(app);
  process.exit();
}

async function makeApplication({ file, exported }: HandlerTarget): Promise<INestApplicationContext> {
  // oxlint-disable-next-line typescript/no-require-imports -- its path is the application's choice
  const loaded = require(file) as Record<string, unknown>;
  const module = loaded[exported];
  if (typeof module !== 'function')
    throw new Failure('HANDLER_MODULE', `${file} exports no module ${exported}.`);
  return NestFactory.createApplicationContext(module as Type, {
    logger: ['error', 'warn'],
    abortOnError: false,
  });
}

function find(
  app: INestApplicationContext,
  name: string,
): { readonly handle: Handle; readonly options: DeclaredHandler['options'] } {
  for (const module of app.get(ModulesContainer).values())
    for (const { metatype, instance } of module.providers.values()) {
      const declared = declaredBy(metatype);
      if (declared?.name !== name) continue;
      const host = instance as Record<string, Handle>;
      const { method, processor, options } = declared;
      const handle: Handle = (input, context) =>
        host[method]?.(processor === undefined ? input : killableJobOf(input as JobInput), context);
      return { handle, options };
    }
  throw new Failure('UNKNOWN_HANDLER', `The module of the handlers has no provider that declares ${name}.`);
}

function fromEnvironment(): Pick<AgentFacts, 'executionId' | 'nodeId' | 'agentId' | 'epoch'> {
  const { env } = process;
  return {
    executionId: env['BELAY_EXECUTION_ID'] ?? '',
    nodeId: env['BELAY_NODE_ID'] ?? '',
    agentId: env['BELAY_AGENT_ID'] ?? '',
    epoch: Number(env['BELAY_EPOCH']),
  };
}

/** Ends the process at an error that no code catches. */
function leave(error: unknown): void {
  tell(error, 'HANDLER_CRASHED');
  process.exit(1);
}

function tell(error: unknown, code = 'HANDLER_FAILED'): void {
  if (isTold) return;
  isTold = true;
  const told = error instanceof NotReportable ? new Failure(error.code, error.message) : error;
  process.stderr.write(`${told instanceof Error ? (told.stack ?? told.message) : String(told)}\n`);
  report({ type: 'error', ...describeFailure(told, code) });
}

async function closeWithin(app: INestApplicationContext | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((done) => {
    timer = setTimeout(done, CLOSE_MS);
  });
  const closed = app?.close().catch((error: unknown) => {
    process.stderr.write(`the shutdown of the application failed: ${String(error)}\n`);
  });
  await Promise.race([closed, limit]);
  clearTimeout(timer);
}

becomeHandlerProcess();
void runHandler({ file, exported, name: given });
