import { benchBytes } from './bytes';
import { benchDag } from './dag';
import { benchFanIn } from './fan-in';
import { benchFloods } from './floods';
import { benchHandlers } from './handlers';
import { benchKill, benchKillAll } from './kill';
import type { BenchOptions, BenchResult } from './measure';
import { benchSpawn } from './spawn';
import { benchTransition } from './transition';
import { benchWorkerLoss } from './worker-loss';

const BENCHES = new Map<string, (options: BenchOptions) => Promise<BenchResult>>([
  ['kill', benchKill],
  ['kill-all', benchKillAll],
  ['dag', benchDag],
  ['spawn', benchSpawn],
  ['transition', benchTransition],
  ['fan-in', benchFanIn],
  ['bytes', benchBytes],
  ['worker-loss', benchWorkerLoss],
  ['floods', benchFloods],
  ['handlers', benchHandlers],
]);
const OPTIONS = ['--json', '--quick', '--least'];
const COUNT = /^--count=([1-9]\d{0,5})$/;

function table({ name, figures, ratios, limits }: BenchResult): string {
  const rows = (title: string, values: Readonly<Record<string, number>>): string[] =>
    Object.entries(values).map(
      ([key, value], i) => `  ${(i === 0 ? title : '').padEnd(9)}${key.padEnd(40)}${value}`,
    );
  return [name, ...rows('figures', figures), ...rows('limits', limits), ...rows('ratios', ratios), ''].join(
    '\n',
  );
}

async function main(args: readonly string[]): Promise<void> {
  const names = args.filter((arg) => !arg.startsWith('--'));
  const unknown = [
    ...names.filter((name) => !BENCHES.has(name)),
    ...args.filter((arg) => arg.startsWith('--') && !OPTIONS.includes(arg) && !COUNT.test(arg)),
  ];
  if (unknown.length > 0) {
    console.error(
      `No benchmark or option ${unknown.join(', ')}. There are: ${[...BENCHES.keys()].join(', ')}; ${OPTIONS.join(', ')}, --count=N.`,
    );
    process.exitCode = 2;
    return;
  }
  const given = args.map((arg) => COUNT.exec(arg)?.[1]).find((text) => text !== undefined);
  const count = given === undefined ? undefined : Number(given);
  for (const name of new Set(names.length > 0 ? names : BENCHES.keys())) {
    const least = args.includes('--least');
    const result = await BENCHES.get(name)?.({ quick: least || args.includes('--quick'), least, count });
    if (result !== undefined)
      process.stdout.write(`${args.includes('--json') ? JSON.stringify(result) : table(result)}\n`);
  }
}

// On exit every child ends by its channel, and every server by its watcher; this process removes the directories.
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
