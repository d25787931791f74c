import { readSettings } from '#libs/contracts';
import { closeProcess, processLog, runAsProcess, takeSecrets } from '#libs/service';
import { ulid } from 'ulid';
import { createWorker } from './create-worker';

/** The exit code when agents had to be stopped. */
const EXIT_FORCED = 3;
/** Added to patience and grace, for the rest of a drain. Milliseconds. */
const DRAIN_SLACK_MS = 20_000;

/** The program: a worker from the environment's settings. Exit codes: 0 drained, 3 agents had to be stopped, 1 failed. */
runAsProcess('worker', async (drain) => {
  // A worker speaks only to the state server, so it does not need the admin token.
  const { BELAY_TOKEN: _, ...env } = takeSecrets(process.env);
  const settings = readSettings(env);
  const workerId = `wrk_${ulid()}`;
  const log = processLog(settings.logLevel, { workerId });
  // Before the first agent: an agent of the same user could read the server's address, and a token in this memory.
  const open = closeProcess(settings.native);
  if (open !== undefined) log.warn(`agents of the same user can read this process: ${open}`);
  const worker = await createWorker({
    workerId,
    settings: { ...settings, valkeyUrl: settings.valkeyUrl ?? '' },
    log,
    ownsProcess: true,
    http: true,
  });
  worker.fence.lost$.subscribe(() => drain('lost'));
  return {
    log,
    netMs: settings.stopTimeoutMs + settings.graceMs + DRAIN_SLACK_MS,
    stuck: 'the drain is stuck; exiting: the guardian ends the remaining agents',
    phases: worker.phases,
    start: async () => {
      await worker.start();
      const { containment, isolation, port } = worker;
      log.info({ containment, isolation, port }, 'running');
      return { type: 'ready', role: 'worker', workerId };
    },
    drain: async (why) => {
      // Without `up` its server may be gone too, and after a lost lease nobody waits for these agents.
      const orphaned = why === 'parent gone' || why === 'lost';
      const { forced, stopped } = await worker.stop(orphaned ? 0 : settings.stopTimeoutMs);
      return {
        exitCode: forced ? EXIT_FORCED : why === 'lost' ? 1 : 0,
        ended: { forced, stopped },
      };
    },
    force: () => worker.force(),
  };
});
