import { BelayError, readSettings } from '#libs/contracts';
import { closeProcess, processLog, runAsProcess, takeSecrets } from '#libs/service';
import { createOrchestrator } from './create-orchestrator';

/** Added to the wait for agents, for the rest of a drain. Milliseconds. */
const DRAIN_SLACK_MS = 5_000;

/** The program: an orchestrator from the environment's settings. Exit codes: 0 drained, 1 failed. */
runAsProcess('orchestrator', async () => {
  const settings = readSettings(takeSecrets(process.env));
  const log = processLog(settings.logLevel, { role: 'orchestrator' });
  const { token, valkeyUrl = '' } = settings;
  const open = closeProcess(settings.native);
  if (open !== undefined) log.warn(`agents of the same user can read this process: ${open}`);
  if (token === undefined)
    throw new BelayError(
      'INVALID_SETTINGS',
      'BELAY_TOKEN is missing. `belay up` makes one; else set it, or BELAY_TOKEN_FILE.',
    );
  const orchestrator = await createOrchestrator({ settings: { ...settings, valkeyUrl }, log, token });
  return {
    log,
    netMs: settings.stopTimeoutMs + DRAIN_SLACK_MS,
    stuck: 'the drain is stuck; exiting',
    phases: orchestrator.phases,
    start: async () => {
      await orchestrator.start();
      // `belay up` drains its workers first, and they need an orchestrator.
      process.on('message', (message: { readonly type?: unknown } | null) => {
        if (message?.type === 'close-admission') orchestrator.closeAdmission();
      });
      const { url } = orchestrator;
      log.info({ url }, 'running');
      return { type: 'ready', role: 'orchestrator', url };
    },
    drain: async () => {
      await orchestrator.stop();
      return { exitCode: 0, ended: {} };
    },
    force: () => process.exit(1),
  };
});
