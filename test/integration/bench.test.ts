import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const main = join(__dirname, '../../dist/bench/main.js');

interface Line {
  readonly name: string;
  readonly figures: Record<string, number>;
  readonly ratios: Record<string, number>;
  readonly limits: Record<string, number>;
}

it('the benchmarks print one JSON object a line, each with limits measured in the same run', async () => {
  const { stdout } = await run(process.execPath, [main, '--quick', '--json'], { timeout: 120_000 });
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  expect(lines.map((line) => line.name)).toEqual(['kill', 'dag', 'spawn', 'transition']);
  for (const { figures, ratios, limits } of lines) {
    for (const part of [figures, ratios, limits]) {
      expect(Object.keys(part).length).toBeGreaterThan(0);
      for (const value of Object.values(part)) expect(value).toBeGreaterThan(0);
    }
  }
  // What is asserted is counted, not timed: these machines are noisy.
  expect(lines[3]?.figures).toMatchObject({ roundTripsPerTransition: 1, roundTripsPerAgentLife: 3 });
  expect(lines[1]?.figures['scriptsPerNode']).toBeLessThan(4);
}, 150_000);

it('an unknown benchmark is a usage error that names the known', async () => {
  await expect(run(process.execPath, [main, 'kil'])).rejects.toMatchObject({
    code: 2,
    stderr: 'No benchmark or option kil. There are: kill, dag, spawn, transition; --json, --quick.\n',
  });
});
