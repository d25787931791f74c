import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import type { ModulesContainer } from '@nestjs/core';
import { BelayError, type Problem } from '#libs/contracts';
import type { HandlerProgram, WaitingProgram } from '#libs/spawner';
import type { DeclaredProcessor } from '../processors/declared-processor';
import { declaredBy } from './agent-handler';

/** Where the processes of handlers find the application's code. */
export interface HandlersOptions {
  /** The absolute path of the file that exports the module, such as `require.resolve('./jobs.module')`. */
  readonly module: string;
  /** The name of its export. */
  readonly export: string;
  /** Variables of this process's environment that handlers get beside those of every agent. Default: none. */
  readonly env?: readonly string[];
  /**
   * This many processes have made the module already and wait, each for one attempt: 0 to 64. Constructors and `onModuleInit`
   * of the module then run before there is an attempt. Default 1; 0: each attempt starts its own.
   */
  readonly waiting?: number;
}

/** The handlers that an application declares, and how to start one. */
export interface Handlers {
  readonly names: readonly string[];
  readonly processors: readonly DeclaredProcessor[];
  readonly programOf: (name: string) => HandlerProgram | undefined;
  /** How to start a process ahead of its attempt, and how many wait. */
  readonly ahead: WaitingProgram | undefined;
}

const DEFAULT_WAITING = 1;
const MOST_WAITING = 64;

/** @throws BelayError INVALID_SETTINGS with every problem */
export function checkHandlersOptions(options: unknown): void {
  if (options === undefined) return;
  const {
    module,
    export: exported,
    env = [],
    waiting = DEFAULT_WAITING,
  } = (options ?? {}) as Partial<HandlersOptions>;
  const problems: Problem[] = [];
  const refuse = (path: string, message: string): number =>
    problems.push({ path, code: 'BAD_VALUE', message });
  if (typeof module !== 'string' || !isAbsolute(module) || !existsSync(module))
    refuse('handlers.module', 'must be the absolute path of the file that exports the module.');
  if (typeof exported !== 'string' || exported === '')
    refuse('handlers.export', "must be the name of the module's class, as its file exports it.");
  if (!Array.isArray(env) || !env.every((name) => typeof name === 'string' && name !== ''))
    refuse('handlers.env', 'must be a list of names of environment variables.');
  if (!Number.isSafeInteger(waiting) || waiting < 0 || waiting > MOST_WAITING)
    refuse('handlers.waiting', `must be a whole number from 0 to ${MOST_WAITING}.`);
  if (problems.length > 0) throw invalid(problems);
}

/**
 * The handlers that the providers of an application declare.
 * @throws BelayError INVALID_SETTINGS: a name that is declared twice, or handlers without the option that starts them
 */
export function collectHandlers(
  modules: ModulesContainer,
  options: HandlersOptions | undefined,
): Handlers | undefined {
  const found = new Map<string, string>();
  const processors: DeclaredProcessor[] = [];
  const problems: Problem[] = [];
  const seen = new Set<unknown>();
  for (const module of modules.values())
    for (const { metatype } of module.providers.values()) {
      const declared = declaredBy(metatype);
      if (declared === undefined || seen.has(metatype)) continue;
      seen.add(metatype);
      const { name } = metatype as { readonly name: string };
      const other = found.get(declared.name);
      if (declared.processor !== undefined) processors.push(declared.processor);
      if (other === undefined) found.set(declared.name, name);
      else
        problems.push({
          path: 'handlers',
          code: 'DUPLICATE_HANDLER',
          message: `${other} and ${name} both declare the handler ${declared.name}; rename one.`,
        });
    }
  if (found.size > 0 && options === undefined)
    problems.push({
      path: 'handlers',
      code: 'REQUIRED',
      message: `is missing: the application declares ${[...found.keys()].join(', ')}. Give { module, export } of the module that has them.`,
    });
  if (problems.length > 0) throw invalid(problems);
  if (options === undefined) return undefined;
  const { waiting = DEFAULT_WAITING } = options;
  return {
    names: [...found.keys()],
    processors,
    programOf: (name) =>
      found.has(name) ? { command: [...commandOf(options), name], env: environmentOf(options) } : undefined,
    ahead:
      found.size === 0 || waiting === 0
        ? undefined
        : { command: commandOf(options), env: () => environmentOf(options), count: waiting },
  };
}

function commandOf({ module, export: exported }: HandlersOptions): string[] {
  return [process.execPath, mainFile(), module, exported];
}

function environmentOf({ env = [] }: HandlersOptions): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of env) {
    const value = process.env[name];
    if (value !== undefined) found[name] = value;
  }
  return found;
}

/** Beside this file where it is built, otherwise in the last build. */
function mainFile(): string {
  const beside = join(__dirname, 'handler-main.js');
  return existsSync(beside) ? beside : join(__dirname, '../../../../dist/package/lib/handler-main.js');
}

function invalid(problems: readonly Problem[]): BelayError {
  const lines = problems.map(({ path, message }) => `${path}: ${message}`);
  return new BelayError('INVALID_SETTINGS', `The handlers are not valid.\n  ${lines.join('\n  ')}`, {
    problems,
  });
}
