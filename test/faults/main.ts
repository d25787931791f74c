import { readArguments, type Asked } from './arguments';
import { drawPlan } from './plan';
import { runSeed, type SeedResult } from './run-seed';
import { faultTable, renderTable, seedLine, summary, toJson } from './table';

const interrupted = new AbortController();

async function main(args: readonly string[]): Promise<number> {
  const asked = readArguments(args);
  if (typeof asked === 'string') {
    console.error(asked);
    return 2;
  }
  const results = await campaign(asked);
  if (results.length === 0) return 1;
  if (asked.json) {
    say(JSON.stringify({ faults: Object.fromEntries(faultTable(results)) }));
    console.error(summary(results));
  } else say(`\n${renderTable(results)}\n\n${summary(results)}`);
  return results.every(({ violations }) => violations.length === 0) ? 0 : 1;
}

/** One seed after the other; an interrupted one does not count. */
async function campaign({ seeds, from, minutes, profile, json }: Asked): Promise<SeedResult[]> {
  const results: SeedResult[] = [];
  const until = performance.now() + minutes * 60_000;
  for (let seed = from; seed < from + seeds && performance.now() < until; seed++) {
    const result = await runSeed(drawPlan(seed, profile), interrupted.signal);
    if (interrupted.signal.aborted) break;
    results.push(result);
    say(json ? toJson(result) : seedLine(result, profile));
  }
  return results;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

// Asked to end, the seed under way is healed and taken down; a second time ends at once, and the guardians kill.
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.on(signal, () => {
    if (interrupted.signal.aborted) process.exit(code);
    interrupted.abort();
    process.exitCode = code;
  });

main(process.argv.slice(2))
  .catch((error: unknown) => {
    console.error(error);
    return 1;
  })
  // The exit code of an interruption stays.
  .then((code) => (process.exitCode ??= code))
  .catch(console.error);
