import { setTimeout as pause } from 'node:timers/promises';
import { isBelayError } from '#libs/contracts';
import { cutReplicas, killPrimary } from '../support/failures';
import { eventually, startFleet, type Fleet } from '../support/fleet';
import { startSentinelSet } from '../support/many-servers';

const SPEC = { name: 'kept', nodes: [{ id: 'a', run: { command: ['true'] } }] };

async function hold(fleet: Fleet): Promise<string> {
  return (await fleet.client.createExecution(SPEC, { start: false })).execution.id;
}

/** How many of them the server does not know. */
async function lost(fleet: Fleet, ids: readonly string[]): Promise<number> {
  const gone = await eventually(
    async () =>
      Promise.all(
        ids.map(async (id) =>
          fleet.life.executions.get(id).then(
            () => false,
            (error: unknown) => {
              if (isBelayError(error) && error.code === 'NOT_FOUND') return true;
              throw error;
            },
          ),
        ),
      ).catch(() => undefined),
    'an answer about each',
    30_000,
  );
  return gone.filter(Boolean).length;
}

function tell(name: string, figures: Record<string, unknown>): void {
  process.stderr.write(`  ${name}: ${JSON.stringify(figures)}\n`);
}

it.each([
  { what: 'appendonly no', appendonly: false, args: [], keeps: false },
  { what: 'appendonly yes, appendfsync everysec', appendonly: true, args: [], keeps: true },
  {
    what: 'appendonly yes, appendfsync always',
    appendonly: true,
    args: ['--appendfsync', 'always'],
    keeps: true,
  },
])(
  'R25 one server, $what: the rest of 200 accepted executions after kill -9 and a restart',
  async ({ what, appendonly, args, keeps }) => {
    const fleet = await startFleet({ workers: 0, server: { appendonly, args } });
    try {
      const begun = performance.now();
      const accepted = await Promise.all(Array.from({ length: 200 }, async () => hold(fleet)));
      const tookMs = Math.round(performance.now() - begun);
      await fleet.server.kill9();
      await fleet.server.restart();
      const gone = await lost(fleet, accepted);
      tell(what, { accepted: accepted.length, tookMs, lost: gone });
      expect(gone).toBe(keeps ? 0 : 200);
    } finally {
      await fleet.stop();
    }
  },
  60_000,
);

it('R25 min-replicas-to-write 1: a write that no replica can get is not accepted, and waits for the next primary', async () => {
  const many = await startSentinelSet({ args: ['--min-replicas-to-write', '1'] });
  const fleet = await startFleet({ url: many.url, workers: 0 });
  try {
    const before = await hold(fleet);
    const mend = await cutReplicas(many);
    let during = 0;
    const waiting = Array.from({ length: 20 }, async () => {
      // Sentinels that could not agree at once take longer than a call waits.
      const id = await eventually(async () => hold(fleet).catch(() => undefined), 'its acceptance', 60_000);
      during++;
      return id;
    });
    await pause(500);
    const acceptedMeanwhile = during;
    await killPrimary(many, 'x');
    await mend();
    const accepted = [before, ...(await Promise.all(waiting))];
    const gone = await lost(fleet, accepted);
    tell('Sentinel, min-replicas-to-write 1, replicas cut for 500 ms', {
      acceptedMeanwhile,
      accepted: accepted.length,
      lost: gone,
    });
    expect(acceptedMeanwhile).toBe(0);
    expect(gone).toBe(0);
  } finally {
    await fleet.stop();
    await many.stop();
  }
}, 120_000);
