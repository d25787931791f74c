import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const main = join(__dirname, '../../dist/bench/main.js');
const NAMES = [
  'kill',
  'kill-all',
  'dag',
  'spawn',
  'transition',
  'fan-in',
  'bytes',
  'worker-loss',
  'floods',
  'handlers',
] as const;
/** The others count bytes and losses, which may be none, and have no peer to compare with. */
const TIMED = ['kill', 'kill-all', 'dag', 'spawn', 'transition', 'worker-loss', 'handlers'] as const;

type Values = Record<string, number>;

interface Line {
  readonly name: string;
  readonly figures: Values;
  readonly ratios: Values;
  readonly limits: Values;
}

describe('the benchmarks, in the shortest run', () => {
  let lines: Line[];

  beforeAll(async () => {
    const { stdout } = await run(process.execPath, [main, '--least', '--json'], { timeout: 220_000 });
    lines = stdout
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text) as Line);
  });

  const lineOf = (name: string): Line => lines.find((line) => line.name === name) as Line;

  it('without names they are all, one JSON object a line', () => {
    expect(lines.map((line) => line.name)).toEqual(NAMES);
    for (const line of lines)
      expect(Object.keys(line).toSorted()).toEqual(['figures', 'limits', 'name', 'ratios']);
  });

  it.each(TIMED)('%s measures its limits in the same run, and every value is a positive number', (name) => {
    const { figures, ratios, limits } = lineOf(name);
    for (const part of [figures, ratios, limits]) {
      expect(Object.keys(part).length).toBeGreaterThan(0);
      for (const [key, value] of Object.entries(part))
        expect({ key, positive: Number.isFinite(value) && value > 0 }).toEqual({ key, positive: true });
    }
  });

  // The assertions are counts, not times: machines are noisy.
  it('a transition is one round trip and one script, an agent’s life three', () => {
    const { figures } = lineOf('transition');
    expect(figures).toMatchObject({
      roundTripsPerTransition: 1,
      scriptsPerTransition: 1,
      roundTripsPerAgentLife: 3,
    });
    expect(lineOf('dag').figures['scriptsPerNode']).toBeLessThan(3.2);
  });

  it('kill gives the ratios it has goals for', () => {
    const { ratios } = lineOf('kill');
    expect(Object.keys(ratios)).toEqual(expect.arrayContaining(['askedToSignalled', 'askedToProved']));
  });
});

it('an unknown benchmark is a usage error that names the known', async () => {
  await expect(run(process.execPath, [main, 'kil'])).rejects.toMatchObject({
    code: 2,
    stderr:
      'No benchmark or option kil. There are: kill, kill-all, dag, spawn, transition, fan-in, bytes, worker-loss, floods, handlers; --json, --quick, --least, --count=N.\n',
  });
});
