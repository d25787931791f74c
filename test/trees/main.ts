import { CONTAINMENTS, isBelayError } from '#libs/contracts';
import type { Containment } from '#libs/spawner';
import { runCampaign, say } from '../support/campaign-main';
import { readArguments, type Asked } from './arguments';
import type { Kind } from './kinds';
import { openHost, runKind, type Outcome } from './run-kind';
import { heading, row, skippedRow, summary, toJson, type Skipped } from './table';

async function main(args: readonly string[], signal: AbortSignal): Promise<number> {
  const asked = readArguments(args);
  if (typeof asked === 'string') {
    console.error(asked);
    return 2;
  }
  const startedAt = performance.now();
  if (!asked.json) say(heading());
  const outcomes: Outcome[] = [];
  const containments = await availableContainments(asked);
  for (const kind of asked.kinds) {
    const missing = kind.missing?.();
    if (missing !== undefined) skip(asked, { kind: kind.name, skipped: missing });
    else for (const containment of containments) outcomes.push(await run(kind, containment, asked, signal));
    if (signal.aborted) break;
  }
  const last = summary(outcomes, (performance.now() - startedAt) / 1_000);
  if (asked.json) console.error(last);
  else say(`\n${last}`);
  return outcomes.every(({ failures }) => failures.length === 0) ? 0 : 1;
}

/** A containment that this machine or user cannot have is no failure of Belay's. */
async function availableContainments(asked: Asked): Promise<Containment[]> {
  const available: Containment[] = [];
  for (const containment of CONTAINMENTS) {
    try {
      await (await openHost(containment, asked)).close();
      available.push(containment);
    } catch (error) {
      if (!isBelayError(error) || error.code !== 'INVALID_SETTINGS') throw error;
      const { reason } = error.details;
      skip(asked, { containment, skipped: typeof reason === 'string' ? reason : error.message });
    }
  }
  return available;
}

async function run(
  kind: Kind,
  containment: Containment,
  { rounds, json, user }: Asked,
  signal: AbortSignal,
): Promise<Outcome> {
  const outcome = await runKind(kind, containment, {
    rounds,
    user,
    signal,
    onRound: (done) => progress(`${kind.name}, ${containment}: ${done}/${rounds}`),
  });
  progress('');
  say(json ? toJson(outcome) : row(outcome));
  return outcome;
}

function skip({ json }: Asked, skipped: Skipped): void {
  say(json ? JSON.stringify(skipped) : skippedRow(skipped));
}

/** One line that is overwritten and gone before the next row. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}

runCampaign(main);
