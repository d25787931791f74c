import { isBelayError, type BelayError } from '#libs/contracts';
import type { Phases } from './phases';
import type { ServiceLog } from './service-log';
import { onStopSignals } from './stop-signals';

/** Why a service drains: a signal's name, its parent gone, or its lease lost. */
export type DrainCause = 'SIGTERM' | 'SIGINT' | 'parent gone' | 'lost';

/** One service, made but not started. */
export interface ProcessService {
  readonly log: ServiceLog;
  /** The overall deadline of a drain, counted from its cause. Milliseconds. */
  readonly netMs: number;
  /** The message when the deadline strikes. */
  readonly stuck: string;
  /** The phases of the drain. */
  readonly phases: Phases;
  /** From here on a stop is a drain. Resolves with the message for the parent. */
  start(): Promise<object>;
  drain(why: DrainCause): Promise<{ readonly exitCode: number; readonly ended: object }>;
  /** Called at the third signal. */
  force(): void;
}

/** After a complete shutdown, any handle that still keeps the event loop alive must not keep the process. Milliseconds. */
const LEAVE_MS = 5_000;

/**
 * Runs a service as an OS process of its own. No other code touches the process. SIGTERM and SIGINT drain it, the second is
 * logged, the third forces the end. The end of the parent's channel drains it too. An overall deadline counts from there. Exit
 * codes: the drain's, 1 when the service could not start or its drain was stuck (docs/cli.md#belay-worker).
 *
 * Until `make` is through, a signal ends the process as it would any other: the service has not taken any work yet.
 */
export function runAsProcess(
  name: 'worker' | 'orchestrator',
  make: (drain: (why: DrainCause) => void) => Promise<ProcessService>,
): void {
  run(make).catch((error: unknown) => {
    const message = isBelayError(error) ? withProblems(error) : error;
    console.error(`belay ${name}:`, message);
    process.exit(1);
  });
}

async function run(make: (drain: (why: DrainCause) => void) => Promise<ProcessService>): Promise<void> {
  let ended: Promise<void> | undefined;
  const service = await make(drain);
  const { log } = service;

  function drain(why: DrainCause): void {
    ended ??= drainOnce(why).catch((error: unknown) => {
      log.error({ err: error }, 'shutdown failed');
      process.exit(1);
    });
  }

  async function drainOnce(why: DrainCause): Promise<void> {
    log.info(`draining (${why})`);
    const net = setTimeout(() => {
      log.fatal({ phase: service.phases.current }, service.stuck);
      process.exit(1);
    }, service.netMs);
    net.unref();
    const { exitCode, ended: how } = await service.drain(why);
    clearTimeout(net);
    process.exitCode = exitCode;
    if (process.connected) process.disconnect();
    setTimeout(() => {
      log.warn({ open: process.getActiveResourcesInfo() }, 'stopped, but something is still open; exiting');
      process.exit();
    }, LEAVE_MS).unref();
    log.info(how, 'stopped');
  }

  onStopSignals(
    (signal) => drain(signal as DrainCause),
    (signal, count) => {
      if (count === 2) log.debug(`${signal} again: already draining`);
      else service.force();
    },
  );
  // Started by `belay up`: when that process ends, in whatever way, this one drains. Its own disconnect is also an event, and
  // no signal.
  process.on('disconnect', () => drain('parent gone'));

  const told = await service.start();
  process.send?.(told);
}

/** The message with the problems that it does not name itself. */
function withProblems({ message, problems }: BelayError): string {
  const others = problems.filter((one) => !message.includes(one.message));
  return message + others.map((one) => `\n  ${one.path}: ${one.message}`).join('');
}
