import { runCampaign, say } from '../support/campaign-main';
import { readArguments, type Asked } from './arguments';
import { deedsTable } from './deeds-table';
import { drawPlan } from './plan';
import { runSeed, type SeedResult } from './run-seed';
import { faultTable, renderTable, seedLine, summary, toJson } from './table';

async function main(args: readonly string[], signal: AbortSignal): Promise<number> {
  const asked = readArguments(args);
  if (typeof asked === 'string') {
    console.error(asked);
    return 2;
  }
  const results = await campaign(asked, signal);
  if (results.length === 0) return 1;
  if (asked.json) {
    const deeds = Object.fromEntries(deedsTable(results));
    say(JSON.stringify({ faults: Object.fromEntries(faultTable(results)), asked: deeds }));
    console.error(summary(results));
  } else say(`\n${renderTable(results)}\n\n${summary(results)}`);
  return results.every(({ violations }) => violations.length === 0) ? 0 : 1;
}

/** Runs some seeds at a time and reports them in order; an interrupted one does not count. */
async function campaign(
  { seeds, from, minutes, parallel, profile, ground, json }: Asked,
  signal: AbortSignal,
): Promise<SeedResult[]> {
  const results = new Map<number, SeedResult>();
  const until = performance.now() + minutes * 60_000;
  let [next, told] = [from, from];
  const run = async (): Promise<void> => {
    while (next < from + seeds && performance.now() < until && !signal.aborted) {
      const seed = next++;
      const result = await runSeed(drawPlan(seed, profile, ground), signal);
      if (signal.aborted) return;
      results.set(seed, result);
      for (let ready = results.get(told); ready !== undefined; ready = results.get(++told))
        say(json ? toJson(ready) : seedLine(ready, profile));
    }
  };
  await Promise.all(Array.from({ length: parallel }, run));
  return [...results.values()].toSorted((a, b) => a.seed - b.seed);
}

runCampaign(main);
