import { LifecycleService } from '#libs/lifecycle';
import { Valkey } from '#libs/valkey';
import { startThrowawayServer } from '#libs/local-server';
import { perSecond, round, type BenchOptions, type BenchResult } from './measure';
import { makeTempDir } from './support/child';
import { prepareFanIn, RESULT_KIB, runFanIn } from './support/fan-in';

/** A node with 2,000 parents of 255 KiB each: its cost for the server, and for the worker that runs it. */
export async function benchFanIn({ quick, least }: BenchOptions): Promise<BenchResult> {
  const parents = least ? 10 : quick ? 100 : 2_000;
  const server = await startThrowawayServer();
  const dir = makeTempDir();
  const valkey = new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 });
  try {
    const life = new LifecycleService(await valkey.open(), { retentionMs: 60_000 });
    const fanIn = await prepareFanIn(life, parents);
    const run = await runFanIn(life, fanIn, dir.path);
    return {
      name: 'fan-in',
      figures: {
        parents,
        resultKiB: RESULT_KIB,
        inputMiB: round(run.result.bytes / 1024 / 1024),
        ms: round(run.ms),
        mebibytesPerSecond: perSecond(run.result.bytes / 1024 / 1024, run.ms),
        longestScriptMs: round(run.longestScriptMs),
        longestCommandMs: round(run.longestCommandMs),
        longestLoopMs: round(run.longestLoopMs),
        workerGrewMiB: round(run.rssMiB),
      },
      limits: {},
      ratios: {},
    };
  } finally {
    valkey.close();
    await server.stop();
    dir.remove();
  }
}
