import { createHash } from 'node:crypto';
import { MACHINES, OutcomeUnknownError, statesOf, type StateMachine } from '#libs/contracts';
import type { Server } from './connection';
import { isTransient, retryTransient, refusalOf, withoutCommand } from './transient-errors';
import { readScriptSources, type ScriptName } from './scripts/sources';
import { nodesOf } from './topology';

/** A script's answer: a JSON object. `refused` carries a code when the script changed nothing. */
export interface ScriptReply {
  readonly refused?: string;
  readonly [field: string]: unknown;
}

/**
 * The state tables as a Lua literal: `{ entity = { from = { to = true } } }`, and the first state of each entity. A literal,
 * since every call makes it anew, and decoding JSON costs as much as a small script. Every guard uses this one source (ADR
 * 0008).
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
 * `--!flags NAMES` in a script's head becomes its first line, where the server looks for it. `allow-oom`: the script runs
 * although the server's memory is full.
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
 * Runs the scripts of libs/valkey/lua by SHA. Every script can be repeated, so a call whose reply was lost is repeated until
 * `patienceMs` has passed. After that the outcome is unknown, and the error says so.
 */
export class ScriptRunner {
  /** Calls made, by script. Benchmarks and tests count round trips here. */
  readonly calls = new Map<ScriptName, number>();
  /** Milliseconds from a call to its answer, by script. */
  readonly tookMs = new Map<ScriptName, number>();
  private closed = false;

  constructor(
    private readonly redis: Server,
    private readonly patienceMs = 10_000,
  ) {}

  /** The connection is closed for good: from here on no call is repeated. */
  close(): void {
    this.closed = true;
  }

  /** Loads every script on every node, so that many first calls do not send them one by one. Best effort. */
  async preload(): Promise<void> {
    await Promise.allSettled(
      nodesOf(this.redis).flatMap((node) =>
        Object.values(SCRIPTS).map(async ({ body }) => node.script('LOAD', body)),
      ),
    );
  }

  /** Runs one script and returns its raw reply. @throws OutcomeUnknownError when the server stays away. */
  async run(name: ScriptName, key: string, args: readonly (string | number | Buffer)[]): Promise<unknown> {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    const script = SCRIPTS[name];
    const calledAt = performance.now();
    try {
      const act = async (): Promise<unknown> => this.once(script, key, args);
      return await retryTransient(act, this.patienceMs, () => this.closed);
    } catch (error) {
      throw isTransient(error) ? new OutcomeUnknownError({ script: name }, error, refusalOf(error)) : error;
    } finally {
      this.tookMs.set(name, (this.tookMs.get(name) ?? 0) + performance.now() - calledAt);
    }
  }

  /** Runs a script that answers with a JSON object. */
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
