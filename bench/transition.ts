import { LifecycleService } from '#libs/lifecycle';
import { startThrowawayServer, Valkey } from '#libs/valkey';
import { agentSpec } from './graph';
import { median, round, spread, timed, type BenchOptions, type BenchResult } from './measure';

/** The least a fenced transition with its event can be: read, compare, write, append. */
const BARE = `
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('XADD', KEYS[1] .. ':events', 'MAXLEN', '~', 1000, '*', 'e', ARGV[2])
redis.call('PUBLISH', 'bench', ARGV[2])
return 1`;

/** One compare-and-set with its event, and a whole agent's life, beside a bare EVALSHA, in turn. */
export async function benchTransition({ quick }: BenchOptions): Promise<BenchResult> {
  const rounds = quick ? 200 : 3_000;
  const server = await startThrowawayServer();
  const valkey = await new Valkey({ url: server.url, keyPrefix: 'belay', shards: 1 }).open();
  const life = new LifecycleService(valkey, { retentionMs: 60_000 });
  try {
    const sha = (await valkey.redis.script('LOAD', BARE)) as string;
    await valkey.redis.hset('{bench}:x', 'state', 'a', 'version', '1');
    const { id } = await life.executions.create(agentSpec(1), { start: true, canonical: '' });
    const ours: number[] = [];
    const bare: number[] = [];
    for (let i = 0; i < rounds; i++) {
      const [from, to] = i % 2 === 0 ? (['running', 'paused'] as const) : (['paused', 'running'] as const);
      ours.push(await timed(async () => life.executions.transition(id, to, { from })));
      bare.push(
        await timed(async () =>
          valkey.redis.evalsha(sha, 1, '{bench}:x', i % 2 ? 'b' : 'a', i % 2 ? 'a' : 'b'),
        ),
      );
    }
    const calls = valkey.scripts.calls.get('transitionExecution') ?? 0;

    const lives = quick ? 100 : 1_000;
    const { id: many } = await life.executions.create(agentSpec(lives), { start: true, canonical: '' });
    const entries = [];
    for (let more = true; more;) {
      const step = await life.executions.advance(many);
      entries.push(...step.entries);
      more = step.more;
    }
    const full: number[] = [];
    for (const entry of entries) {
      full.push(
        await timed(async () => {
          const claim = await life.agents.claim(entry, 'wrk_bench', 't');
          if (!claim.claimed) throw new Error(claim.why);
          await life.agents.started(claim.fence, { pid: 1, pidStartTime: '1', containment: 'group' });
          await life.agents.finish(claim.fence, { state: 'completed', exitCode: 0 });
        }),
      );
    }
    return {
      name: 'transition',
      figures: {
        ...spread('transition', ours),
        ...spread('agentLife', full),
        roundTripsPerTransition: calls / rounds,
        roundTripsPerAgentLife: 3,
      },
      limits: spread('bareEvalsha', bare),
      ratios: {
        transition: round(median(ours) / median(bare)),
        agentLifePerScript: round(median(full) / 3 / median(bare)),
      },
    };
  } finally {
    valkey.close();
    await server.stop();
  }
}
