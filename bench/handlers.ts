import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { startThrowawayServer } from '#libs/local-server';
import {
  median,
  perSecond,
  ratio,
  round,
  runLanes,
  within,
  type BenchOptions,
  type BenchResult,
} from './measure';
import { endChild, makeTempDir, startChild, type Child } from './support/child';

const PROGRAMS = join(__dirname, '../../bench/handlers');
/** Of the application, of the peer, and of bare processes. */
const CONCURRENCY = 4;
const DEFAULT_COUNT = 1_000;
const QUICK_COUNT = 4;
const LEAST_COUNT = 1;
/** Attempts one after the other. */
const ALONE = 10;
/** More would not change the cost of a bare process. */
const MOST_BARE = 40;
const RUN_MS = 3_600_000;
/** USER_HZ is 100 on every Linux: /proc/PID/stat counts in hundredths of a second. */
const TICK_MS = 10;

interface Answer {
  readonly ms?: number;
  readonly error?: string;
}

/** A process with all its children: its time for a piece of work, and their CPU time until they have ended. */
class Side {
  private readonly before = childrenCpuMs();

  private constructor(private readonly child: Child<{ cpuMs: number }>) {}

  static async start(program: string, options: object): Promise<Side> {
    return new Side(await startChild(join(PROGRAMS, program), [JSON.stringify(options)]));
  }

  async ask(message: { run: number } | { alone: true }): Promise<number> {
    const { process } = this.child;
    const answered = once(process, 'message') as Promise<[Answer]>;
    process.send(message);
    const [{ ms, error }] = await within(RUN_MS, 'an answer', answered);
    if (ms === undefined) throw new Error(error);
    return ms;
  }

  /** Ends it. @returns the CPU time of it and of all children that it waited for, less its own before it was ready. */
  async end(): Promise<number> {
    await endChild(this.child);
    return childrenCpuMs() - this.before - this.child.ready.cpuMs;
  }
}

/** Handlers, each in a process of its own, beside BullMQ's sandboxed processor, which reuses its processes. */
export async function benchHandlers({ quick, least, count: asked }: BenchOptions): Promise<BenchResult> {
  const count = asked ?? (least ? LEAST_COUNT : quick ? QUICK_COUNT : DEFAULT_COUNT);
  const concurrency = least ? 1 : CONCURRENCY;
  const rounds = quick ? 1 : ALONE;
  const server = await startThrowawayServer();
  const dir = makeTempDir();
  const sides: Side[] = [];
  const start = async (program: string, options: object): Promise<Side> => {
    const side = await Side.start(program, options);
    sides.push(side);
    return side;
  };
  const application = async (name: string, waiting: number): Promise<Side> =>
    start('app.cjs', {
      waiting,
      options: {
        url: server.url,
        keyPrefix: name,
        queuePrefix: name,
        dataDir: join(dir.path, name),
        workDir: dir.path,
        worker: { concurrency },
      },
    });
  const alone = async (side: Side): Promise<number> => {
    const samples: number[] = [];
    for (let i = 0; i < rounds; i++) samples.push(await side.ask({ alone: true }));
    return median(samples);
  };
  try {
    const ours = await application('ours', concurrency);
    const oursMs = await ours.ask({ run: count });
    const warmMs = await alone(ours);
    // Includes the processes that wait in vain at the end.
    const oursCpuMs = (await ours.end()) / (count + rounds);
    const theirs = await start('peer.cjs', { url: server.url, concurrency });
    const firstMs = await theirs.ask({ run: concurrency });
    const theirsMs = await theirs.ask({ run: count });
    const theirsCpuMs = await theirs.end();
    const cold = await application('cold', 0);
    const coldMs = await alone(cold);
    await cold.end();
    const bare = await measureBare(concurrency, Math.min(count, MOST_BARE));
    return {
      name: 'handlers',
      figures: {
        handlers: count,
        nodesPerSecond: perSecond(count, oursMs),
        cpuMsPerHandler: round(oursCpuMs),
        aloneWaitingMsP50: round(warmMs),
        aloneStartedMsP50: round(coldMs),
      },
      limits: {
        bullmqSandboxJobsPerSecond: perSecond(count, theirsMs),
        bullmqSandboxCpuMsPerJob: round(theirsCpuMs / (count + concurrency)),
        bullmqSandboxFirstJobsMs: round(firstMs),
        bareProcessesPerSecond: bare.perSecond,
        bareCpuMsPerProcess: bare.cpuMs,
      },
      ratios: {
        nodesPerSecondToBullmqSandbox: ratio(theirsMs, oursMs),
        nodesPerSecondToBareProcesses: ratio(count / oursMs, bare.perSecond / 1_000),
        cpuToBareProcesses: ratio(oursCpuMs, bare.cpuMs),
        aloneWaitingToStarted: ratio(warmMs, coldMs),
      },
    };
  } finally {
    for (const side of sides) await side.end();
    await server.stop();
    dir.remove();
  }
}

/** A process for each piece of work, which makes the same module: the least that gives each its own. */
async function measureBare(
  concurrency: number,
  count: number,
): Promise<{ perSecond: number; cpuMs: number }> {
  const before = childrenCpuMs();
  const { ms } = await runLanes(concurrency, Math.ceil(count / concurrency), async (_, i) => {
    const child = spawn(process.execPath, [join(PROGRAMS, 'bare.cjs'), String(i)], { stdio: 'ignore' });
    const [code] = (await once(child, 'exit')) as [number | null];
    if (code !== 0) throw new Error(`a bare process ended with ${code}`);
  });
  const made = Math.ceil(count / concurrency) * concurrency;
  return { perSecond: perSecond(made, ms), cpuMs: round((childrenCpuMs() - before) / made) };
}

/** CPU time of children that this process has waited for, and of all their children. */
function childrenCpuMs(): number {
  const text = readFileSync('/proc/self/stat', 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) * TICK_MS;
}
