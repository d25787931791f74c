import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { BelayError } from '#libs/contracts';
import type { SpawnFailure, SpawnRequest } from './process-host.types';

/** argv with its program as an absolute path, and the directory in which to start. */
export interface ResolvedCommand {
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd: string;
}

type Asked = Pick<SpawnRequest, 'command' | 'shell' | 'cwd'>;

/**
 * Finds the program on the agent's own PATH before anything is started, because behind the shim that joins the cgroup a missing
 * program would be an exit code and no error.
 * @throws BelayError SPAWN_FAILED, reason BAD_CWD, BAD_COMMAND, ENOENT or EACCES.
 */
export function resolveCommand(asked: Asked, environment: Readonly<Record<string, string>>): ResolvedCommand {
  const cwd = resolve(asked.cwd ?? '.');
  checkDirectory(cwd);
  const argv = asked.shell ? shellArguments(asked.command) : asked.command;
  const [name, ...args] = argv;
  if (name === undefined || name === '')
    throw failure('BAD_COMMAND', 'The command is empty: give at least the name of a program.');
  if (argv.some((argument) => argument.includes('\0')))
    throw failure('BAD_COMMAND', 'The command contains a zero byte, which no program accepts.');
  return { file: findProgram(name, cwd, environment['PATH'] ?? ''), args, cwd };
}

function shellArguments(command: readonly string[]): string[] {
  const [line] = command;
  if (line === undefined || command.length !== 1)
    throw failure('BAD_COMMAND', `With "shell: true" the command is one string, not ${command.length}.`);
  return ['/bin/sh', '-c', line];
}

function checkDirectory(cwd: string): void {
  let problem: string | undefined;
  try {
    if (!statSync(cwd).isDirectory()) problem = 'is not a directory';
    else accessSync(cwd, constants.X_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    problem = code === 'EACCES' ? 'may not be entered by the worker (EACCES)' : `does not exist (${code})`;
  }
  if (problem !== undefined)
    throw failure('BAD_CWD', `The working directory ${cwd} ${problem}. Make it, or correct "cwd".`, { cwd });
}

function findProgram(name: string, cwd: string, path: string): string {
  const candidates = name.includes('/')
    ? [isAbsolute(name) ? name : join(cwd, name)]
    : path.split(':').map((folder) => resolve(cwd, folder, name));
  let refused: string | undefined;
  for (const candidate of candidates) {
    const verdict = checkProgram(candidate);
    if (verdict === 'ok') return candidate;
    if (verdict === 'refused') refused ??= candidate;
  }
  if (refused !== undefined)
    throw failure('EACCES', `${refused} is not executable for the worker. Try: chmod +x ${refused}`, {
      file: refused,
    });
  const where = name.includes('/') ? '' : ` on the PATH of the agent (${shortened(path)})`;
  throw failure('ENOENT', `There is no program ${name}${where}. Install it, or correct "command".`, {
    file: name,
  });
}

const FOLDERS_SHOWN = 8;

/** Shortens a PATH for an error: nobody reads fifty folders. */
function shortened(path: string): string {
  const folders = path.split(':');
  const rest = folders.length - FOLDERS_SHOWN;
  return rest <= 1 ? path : `${folders.slice(0, FOLDERS_SHOWN).join(':')} and ${rest} more folders`;
}

function checkProgram(file: string): 'ok' | 'refused' | 'absent' {
  try {
    if (!statSync(file).isFile()) return 'refused';
    accessSync(file, constants.X_OK);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES' ? 'refused' : 'absent';
  }
  checkInterpreter(file);
  return 'ok';
}

/** A script whose `#!` names a missing program also fails with ENOENT, with a misleading message. */
function checkInterpreter(file: string): void {
  const interpreter = /^#![ \t]*(\/[^\s\0]*)/.exec(firstBytes(file))?.[1];
  if (interpreter === undefined) return;
  try {
    accessSync(interpreter, constants.X_OK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code === 'EACCES' ? 'EACCES' : 'ENOENT';
    throw failure(code, `${file} asks for the interpreter ${interpreter}, which cannot be run (${code}).`, {
      file,
      interpreter,
    });
  }
}

function firstBytes(file: string): string {
  const head = Buffer.alloc(256);
  try {
    const fd = openSync(file, 'r');
    try {
      return head.toString('latin1', 0, readSync(fd, head, 0, head.length, 0));
    } finally {
      closeSync(fd);
    }
  } catch {
    return ''; // executable but not readable: no script
  }
}

/** SPAWN_FAILED with its reason. */
export function failure(
  reason: SpawnFailure,
  message: string,
  details: Readonly<Record<string, unknown>> = {},
  cause?: unknown,
): BelayError {
  return new BelayError('SPAWN_FAILED', message, { details: { reason, ...details }, cause });
}
