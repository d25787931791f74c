import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createProcessHost } from '#libs/spawner';
import { median, round, spread, timed, type BenchOptions, type BenchResult } from './measure';

async function bareSpawn(): Promise<void> {
  const child = spawn('/bin/true', [], { detached: true, stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
  // /bin/true reads nothing.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end('{}');
  await new Promise((resolve) => child.once('close', resolve));
}

/** From the request to the proof that the tree is gone, beside a bare spawn with as many pipes, in turn. */
export async function benchSpawn({ quick }: BenchOptions): Promise<BenchResult> {
  const rounds = quick ? 40 : 300;
  const figures: Record<string, number> = {};
  const ratios: Record<string, number> = {};
  let limits: Record<string, number> = {};
  for (const containment of ['cgroup', 'group'] as const) {
    const dataDir = mkdtempSync(join(tmpdir(), 'belay-bench-'));
    const host = await createProcessHost({ workerId: `bench-${containment}`, dataDir, containment }).catch(
      () => undefined,
    );
    if (host === undefined) continue;
    try {
      const ours: number[] = [];
      const bare: number[] = [];
      for (let i = 0; i < rounds; i++) {
        ours.push(
          await timed(async () => {
            const agent = await host.spawn({
              agentId: `a${i}`,
              command: ['/bin/true'],
              shell: false,
              env: {},
              stdin: '{}',
              graceMs: 100,
              onOutput: () => undefined,
              onMessage: () => undefined,
            });
            const { report } = await agent.ended;
            if (!report.proved) throw new Error('an agent was not proved dead');
          }),
        );
        bare.push(await timed(bareSpawn));
      }
      Object.assign(figures, spread(`${containment}SpawnToProved`, ours));
      limits = {
        ...limits,
        ...spread(`bareSpawnBeside${containment === 'cgroup' ? 'Cgroup' : 'Group'}`, bare),
      };
      ratios[containment] = round(median(ours) / median(bare));
    } finally {
      await host.close();
      rmSync(dataDir, { recursive: true, force: true });
    }
  }
  return { name: 'spawn', figures, ratios, limits };
}
