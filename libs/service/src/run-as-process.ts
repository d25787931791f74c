import { isBelayError } from '#libs/contracts';
import type { Phases } from '#libs/lifecycle';
import type { ServiceLog } from './service-log';
import { onStopSignals } from './stop-signals';

/** Why a service drains: a signal's name, its parent gone, or its lease lost. */
export type DrainCause = 'SIGTERM' | 'SIGINT' | 'parent gone' | 'lost';

/** One service, made but not started. */
export interface ProcessService {
  readonly log: ServiceLog;
  /** The overall deadline of a drain, from what begins it. Milliseconds. */
  readonly netMs: number;
  /** The message when it strikes. */
  readonly stuck: string;
  /** The drain's current phase. */
  readonly phases: Phases;
  /** From here on a stop is a drain. Resolves with what the parent is told. */
  start(): Promise<object>;
  drain(why: DrainCause): Promise<{ readonly exitCode: number; readonly ended: object }>;
  /** The third signal. */
  force(): void;
}

/** After a shutdown that is through, whatever still holds the event loop must not keep the process. Milliseconds. */
const LEAVE_MS = 5_000;

/**
 * A service as an OS process of its own, and the only place that touches the process: SIGTERM and SIGINT drain it, the
 * second is logged, the third forces (requirement R46); so does the end of its parent's channel; an overall deadline runs from
 * there (requirement R47). Exit codes: what the drain says, 1 when it could not start or its drain was stuck.
 *
 * Before `make` is through a signal ends the process as it would any other; nothing has been taken on yet.
 */
export function runAsProcess(
  name: 'worker' | 'orchestrator',
  make: (drain: (why: DrainCause) => void) => Promise<ProcessService>,
): void {
  run(make).catch((error: unknown) => {
    const message = isBelayError(error)
      ? `${error.message}${error.problems.map((p) => `\n  ${p.path}: ${p.message}`).join('')}`
      : error;
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
      log.warn({ open: process.getActiveResourcesInfo() }, 'stopped, and still something is open; leaving');
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
  // Started by `belay up`: when it goes, we drain, however it went. Our own leaving says the same, and is no signal.
  process.on('disconnect', () => drain('parent gone'));

  const told = await service.start();
  process.send?.(told);
}
