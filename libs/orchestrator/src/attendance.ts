import { Inject, Injectable } from '@nestjs/common';
import { EXECUTION_MACHINE, isEnded, NotFoundError } from '#libs/contracts';
import { KillswitchService } from '#libs/killswitch';
import { LifecycleService, type Abandoned } from '#libs/lifecycle';
import { ulid } from 'ulid';
import { ORCHESTRATOR_OPTIONS, type OrchestratorOptions } from './orchestrator-options';

/** A client has this long to come back before its execution is stopped. Milliseconds. */
const COME_BACK_MS = 5_000;
/** A watcher whose orchestrator died is missed after this; it is renewed three times as often. Milliseconds. */
const UNHEARD_MS = 30_000;
const RENEW_MS = UNHEARD_MS / 3;

/** The connection of a client that watches an execution. */
export interface WatchingStream {
  readonly closed: Promise<void>;
  /** True once the connection closed before the end of the stream. */
  readonly wasLost: boolean;
}

/** Stops executions whose clients asked for a stop when they go away (`cancelOnDisconnect`). */
@Injectable()
export class Attendance {
  constructor(
    @Inject(LifecycleService) private readonly lifecycle: LifecycleService,
    @Inject(KillswitchService) private readonly killswitch: KillswitchService,
    @Inject(ORCHESTRATOR_OPTIONS) private readonly options: Pick<OrchestratorOptions, 'onError'>,
  ) {}

  /**
   * Registers a watcher; it is stored when this resolves. The returned function takes the stream, and watches until its end.
   */
  async watch(executionId: string): Promise<(stream: WatchingStream) => void> {
    const watcher = ulid();
    await this.lifecycle.attendance.attend(executionId, watcher, UNHEARD_MS);
    return (stream) => this.follow(executionId, watcher, stream);
  }

  private follow(executionId: string, watcher: string, stream: WatchingStream): void {
    const { attendance } = this.lifecycle;
    const renewing = setInterval(() => {
      attendance.attend(executionId, watcher, UNHEARD_MS).catch(this.options.onError);
    }, RENEW_MS).unref();
    const leave = async (): Promise<void> => {
      clearInterval(renewing);
      // The server ended the stream, so its client did not leave it.
      if (stream.wasLost) await attendance.attend(executionId, watcher, COME_BACK_MS);
      else await attendance.settle({ executionId, watcher });
    };
    void stream.closed.then(leave).catch(this.options.onError);
  }

  /** Stops the executions whose last client did not come back. Repeatable. */
  async sweep(): Promise<void> {
    for (const one of await this.lifecycle.attendance.abandoned())
      await this.stop(one).catch(this.options.onError);
  }

  private async stop(one: Abandoned): Promise<void> {
    const { executionId } = one;
    const state = await this.stateOf(executionId);
    if (state !== undefined && !isEnded(EXECUTION_MACHINE, state))
      await this.killswitch.placeOrder({
        scope: { type: 'execution', executionId },
        reason: 'user_abort',
        by: 'cancelOnDisconnect',
        note: 'The client that watched it went away and did not come back.',
      });
    await this.lifecycle.attendance.settle(one);
  }

  private async stateOf(executionId: string) {
    try {
      return (await this.lifecycle.executions.get(executionId)).state;
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }
}
