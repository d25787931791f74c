import { benchDag } from './dag';
import { benchKill } from './kill';
import type { BenchOptions, BenchResult } from './measure';
import { benchSpawn } from './spawn';
import { benchTransition } from './transition';

const BENCHES: Record<string, (options: BenchOptions) => Promise<BenchResult>> = {
  kill: benchKill,
  dag: benchDag,
  spawn: benchSpawn,
  transition: benchTransition,
};

function table({ name, figures, ratios, limits }: BenchResult): string {
  const rows = (title: string, values: Readonly<Record<string, number>>): string[] =>
    Object.entries(values).map(
      ([key, value], i) => `  ${(i === 0 ? title : '').padEnd(8)}${key.padEnd(36)}${value}`,
    );
  return [name, ...rows('figures', figures), ...rows('limits', limits), ...rows('ratios', ratios)].join('\n');
}

async function main(args: readonly string[]): Promise<void> {
  const names = args.filter((arg) => !arg.startsWith('--'));
  const unknown = [
    ...names.filter((name) => BENCHES[name] === undefined),
    ...args.filter((arg) => arg.startsWith('--') && arg !== '--json' && arg !== '--quick'),
  ];
  if (unknown.length > 0) {
    console.error(
      `No benchmark or option ${unknown.join(', ')}. There are: ${Object.keys(BENCHES).join(', ')}; --json, --quick.`,
    );
    process.exitCode = 2;
    return;
  }
  for (const name of names.length > 0 ? names : Object.keys(BENCHES)) {
    const result = await BENCHES[name]?.({ quick: args.includes('--quick') });
    if (result !== undefined)
      process.stdout.write(`${args.includes('--json') ? JSON.stringify(result) : table(result)}\n`);
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
