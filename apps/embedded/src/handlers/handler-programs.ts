import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import type { ModulesContainer } from '@nestjs/core';
import { BelayError, type Problem } from '#libs/contracts';
import type { HandlerProgram } from '#libs/spawner';
import type { DeclaredProcessor } from '../processors/declared-processor';
import { declaredBy } from './agent-handler';

/** Where the processes of handlers find the application's code. */
export interface HandlersOptions {
  /** The absolute path of the file that exports the module, such as `require.resolve('./jobs.module')`. */
  readonly module: string;
  /** The name of its export. */
  readonly export: string;
  /** Variables of this process's environment that handlers get, beside those that every agent gets. Default: none. */
  readonly env?: readonly string[];
}

/** The handlers that an application declares, and how one is started. */
export interface Handlers {
  readonly names: readonly string[];
  readonly processors: readonly DeclaredProcessor[];
  readonly programOf: (name: string) => HandlerProgram | undefined;
}

/** @throws BelayError INVALID_SETTINGS with every problem */
export function checkHandlersOptions(options: unknown): void {
  if (options === undefined) return;
  const { module, export: exported, env = [] } = (options ?? {}) as Partial<HandlersOptions>;
  const problems: Problem[] = [];
  const refuse = (path: string, message: string): number =>
    problems.push({ path, code: 'BAD_VALUE', message });
  if (typeof module !== 'string' || !isAbsolute(module) || !existsSync(module))
    refuse('handlers.module', 'must be the absolute path of the file that exports the module.');
  if (typeof exported !== 'string' || exported === '')
    refuse('handlers.export', "must be the name of the module's class, as its file exports it.");
  if (!Array.isArray(env) || !env.every((name) => typeof name === 'string' && name !== ''))
    refuse('handlers.env', 'must be a list of names of environment variables.');
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
  return {
    names: [...found.keys()],
    processors,
    programOf: (name) => (found.has(name) ? programOf(name, options) : undefined),
  };
}

function programOf(name: string, { module, export: exported, env = [] }: HandlersOptions): HandlerProgram {
  return {
    command: [process.execPath, mainFile(), module, exported, name],
    env: Object.fromEntries(
      env.flatMap((each) => (process.env[each] === undefined ? [] : [[each, process.env[each]]])),
    ),
  };
}

/** Beside this file where it is built, else in what was built last. */
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
