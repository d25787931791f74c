import { createHash } from 'node:crypto';
import { MACHINES, OutcomeUnknownError, statesOf, type StateMachine } from '#libs/contracts';
import type { Server } from './connection';
import { isTransient, retryTransient, refusalOf, withoutCommand } from './transient-errors';
import { readScriptSources, type ScriptName } from './scripts/sources';
import { nodesOf } from './topology';

/** A script's answer: a JSON object; `refused` carries the code when it changed nothing. */
export interface ScriptReply {
  readonly refused?: string;
  readonly [field: string]: unknown;
}

/**
 * The state tables as Lua reads them: `{ entity = { from = { to = true } } }`, as a literal, since it is made anew in
 * every call and decoding JSON there costs as much as a small script; and the state each entity begins in. One source for
 * every guard (requirement R1).
 */
function tablesPrelude(): string {
  const table = (entries: readonly (readonly [string, string])[]): string =>
    `{${entries.map(([name, value]) => `['${name}']=${value}`).join(',')}}`;
  const machines = Object.entries(MACHINES).map(([entity, machine]) => {
    const { transitions } = machine as StateMachine<string>;
    const rows = statesOf(machine as StateMachine<string>).map(
      (from) => [from, table(Object.keys(transitions[from] ?? {}).map((to) => [to, 'true']))] as const,
    );
    return [entity, table(rows)] as const;
  });
  const initial = Object.entries(MACHINES).map(
    ([entity, machine]) => [entity, `'${machine.initial}'`] as const,
  );
  return `local TABLES = ${table(machines)}\nlocal INITIAL = ${table(initial)}\n`;
}

interface LoadedScript {
  readonly body: string;
  readonly sha: string;
}

/**
 * `--!flags NAMES` in a script's head becomes its first line, which is where the server looks for it. `allow-oom`: it
 * runs although the server's memory is full.
 */
function shebangOf(source: string): string {
  const flags = /^--!flags (\S+)$/m.exec(source)?.[1];
  return flags === undefined ? '' : `#!lua flags=${flags}\n`;
}

function load(): Record<ScriptName, LoadedScript> {
  const prelude = tablesPrelude();
  const loaded = Object.entries(readScriptSources()).map(([name, source]) => {
    const body = shebangOf(source) + prelude + source;
    return [name, { body, sha: createHash('sha1').update(body).digest('hex') }] as const;
  });
  return Object.fromEntries(loaded) as Record<ScriptName, LoadedScript>;
}

const SCRIPTS = load();

/**
 * Runs the scripts of libs/valkey/lua by SHA. Every one of them can be repeated, so a call whose reply was lost is
 * made again until `patienceMs` has passed; after that the outcome is unknown and the error says so.
 */
export class ScriptRunner {
  /** Calls made, by script: benchmarks and tests count round trips here. */
  readonly calls = new Map<ScriptName, number>();
  /** Milliseconds from calls to their answers, by script. */
  readonly tookMs = new Map<ScriptName, number>();
  private closed = false;

  constructor(
    private readonly redis: Server,
    private readonly patienceMs = 10_000,
  ) {}

  /** The connection is closed for good: from here on nothing is tried again. */
  close(): void {
    this.closed = true;
  }

  /** Hands every script to every node, so that a crowd of first calls does not send them one by one. Best effort. */
  async preload(): Promise<void> {
    await Promise.allSettled(
      nodesOf(this.redis).flatMap((node) =>
        Object.values(SCRIPTS).map(async ({ body }) => node.script('LOAD', body)),
      ),
    );
  }

  /** One script, raw reply. @throws OutcomeUnknownError when the server stays away. */
  async run(name: ScriptName, key: string, args: readonly (string | number | Buffer)[]): Promise<unknown> {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    const script = SCRIPTS[name];
    const calledAt = performance.now();
    try {
      const act = async (): Promise<unknown> => this.once(script, key, args);
      return await retryTransient(act, this.patienceMs, () => this.closed);
    } catch (error) {
      throw isTransient(error) ? new OutcomeUnknownError(`script ${name}`, error, refusalOf(error)) : error;
    } finally {
      this.tookMs.set(name, (this.tookMs.get(name) ?? 0) + performance.now() - calledAt);
    }
  }

  /** One script that answers a JSON object. */
  async json(name: ScriptName, key: string, args: readonly (string | number)[]): Promise<ScriptReply> {
    return JSON.parse((await this.run(name, key, args)) as string) as ScriptReply;
  }

  private async once(
    script: LoadedScript,
    key: string,
    args: readonly (string | number | Buffer)[],
  ): Promise<unknown> {
    try {
      return await this.redis.evalsha(script.sha, 1, key, ...args);
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw withoutCommand(error);
      return this.redis.eval(script.body, 1, key, ...args).catch((again: unknown) => {
        throw withoutCommand(again);
      });
    }
  }
}
