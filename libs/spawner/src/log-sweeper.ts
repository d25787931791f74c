import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import type { AgentStore } from '#libs/lifecycle';

const LOG_FILE = /^(agt_\w+-\d+-\d+)\.log(?:\.[12])?$/;
const INTERVAL_MS = 60_000;
/** One call asks about this many agents. */
const BATCH = 200;
/** Files of an agent that the server does not know may belong to a server that is just being restored. */
const UNKNOWN_KEPT_MS = 10 * 60_000;

export interface LogSweeperOptions {
  readonly logDir: string;
  /** Above this many bytes of log files of all workers of the folder, the oldest files are removed. */
  readonly maxBytes: number;
  /** Above this many agents with files, the oldest files are removed. */
  readonly maxAgents: number;
  /** Agents of this worker that are not over, whatever their records say. */
  readonly busy: () => readonly string[];
  readonly onError: (error: unknown) => void;
  readonly unknownKeptMs?: number;
}

interface AgentFiles {
  readonly agentId: string;
  readonly paths: string[];
  bytes: number;
  changedAt: number;
}

/**
 * Removes log files of ended agents: all files of an execution that retention or a person has removed, and the oldest files
 * when there are too many. Files of a live agent stay. Every worker of a folder sweeps it; a sweep is idempotent.
 */
export class LogSweeper implements OnModuleInit, OnModuleDestroy {
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly agents: Pick<AgentStore, 'named'>,
    private readonly options: LogSweeperOptions,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.sweeping = this.sweeping.then(async () => this.sweep()).catch(this.options.onError);
    }, INTERVAL_MS);
    this.timer.unref();
  }

  async onModuleDestroy(): Promise<void> {
    clearInterval(this.timer);
    await this.sweeping;
  }

  /** @returns the agents whose files were removed. */
  async sweep(): Promise<string[]> {
    const found = await this.look();
    const ended: AgentFiles[] = [];
    const removed: string[] = [];
    let bytes = 0;
    let count = 0;
    for (let i = 0; i < found.length; i += BATCH) {
      const batch = found.slice(i, i + BATCH);
      const states = await this.statesOf(batch);
      for (const files of batch) {
        const state = states.get(files.agentId);
        if (state === undefined && this.isOld(files)) {
          removed.push(await this.remove(files));
          continue;
        }
        bytes += files.bytes;
        count += 1;
        if (state === 'ended') ended.push(files);
      }
    }
    for (const files of ended.toSorted((a, b) => a.changedAt - b.changedAt)) {
      if (bytes <= this.options.maxBytes && count <= this.options.maxAgents) break;
      bytes -= files.bytes;
      count -= 1;
      removed.push(await this.remove(files));
    }
    return removed;
  }

  private async look(): Promise<AgentFiles[]> {
    const byAgent = new Map<string, AgentFiles>();
    for (const name of await readdir(this.options.logDir)) {
      const agentId = LOG_FILE.exec(name)?.[1];
      if (agentId === undefined) continue;
      const path = join(this.options.logDir, name);
      // Another worker of the folder may have removed the file meanwhile.
      const found = await stat(path).catch(() => undefined);
      if (found === undefined) continue;
      const files = byAgent.get(agentId) ?? { agentId, paths: [], bytes: 0, changedAt: 0 };
      files.paths.push(path);
      files.bytes += found.size;
      files.changedAt = Math.max(files.changedAt, found.mtimeMs);
      byAgent.set(agentId, files);
    }
    return [...byAgent.values()];
  }

  /** The states of the agents that the server knows. An agent whose record cannot be read counts as live. */
  private async statesOf(batch: readonly AgentFiles[]): Promise<Map<string, 'live' | 'ended'>> {
    const records = await this.agents.named(batch.map(({ agentId }) => agentId));
    const states = new Map(
      records.map(({ id, state }) => [id, state === 'spawning' || state === 'running' ? 'live' : 'ended']),
    ) as Map<string, 'live' | 'ended'>;
    for (const agentId of this.options.busy()) states.set(agentId, 'live');
    return states;
  }

  private isOld({ changedAt }: AgentFiles): boolean {
    return Date.now() - changedAt >= (this.options.unknownKeptMs ?? UNKNOWN_KEPT_MS);
  }

  private async remove({ agentId, paths }: AgentFiles): Promise<string> {
    await Promise.all(paths.map(async (path) => rm(path, { force: true })));
    return agentId;
  }
}
