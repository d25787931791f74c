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

/** One seed after the other; an interrupted one does not count. */
async function campaign(
  { seeds, from, minutes, profile, json }: Asked,
  signal: AbortSignal,
): Promise<SeedResult[]> {
  const results: SeedResult[] = [];
  const until = performance.now() + minutes * 60_000;
  for (let seed = from; seed < from + seeds && performance.now() < until; seed++) {
    const result = await runSeed(drawPlan(seed, profile), signal);
    if (signal.aborted) break;
    results.push(result);
    say(json ? toJson(result) : seedLine(result, profile));
  }
  return results;
}

runCampaign(main);
