import { EXECUTION_MACHINE, isEnded, NotFoundError } from '#libs/contracts';
import type { KillswitchService } from '#libs/killswitch';
import type { Abandoned, LifecycleService } from '#libs/lifecycle';
import { ulid } from 'ulid';
import type { SseStream } from './sse';

/** A client has this long to come back before its execution is stopped. Milliseconds. */
const COME_BACK_MS = 5_000;
/** A watcher whose orchestrator died is missed after this; it is renewed three times as often. Milliseconds. */
const UNHEARD_MS = 30_000;
const RENEW_MS = UNHEARD_MS / 3;

/** Stops executions whose clients asked for a stop when they go away (`cancelOnDisconnect`). */
export class Attendance {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly killswitch: KillswitchService,
    private readonly onError: (error: unknown) => void,
  ) {}

  /**
   * Registers a watcher; it is stored when this resolves. The returned function takes the stream, and watches until its end.
   */
  async watch(executionId: string): Promise<(stream: SseStream) => void> {
    const watcher = ulid();
    await this.lifecycle.attendance.attend(executionId, watcher, UNHEARD_MS);
    return (stream) => this.follow(executionId, watcher, stream);
  }

  private follow(executionId: string, watcher: string, stream: SseStream): void {
    const { attendance } = this.lifecycle;
    const renewing = setInterval(() => {
      attendance.attend(executionId, watcher, UNHEARD_MS).catch(this.onError);
    }, RENEW_MS).unref();
    const leave = async (): Promise<void> => {
      clearInterval(renewing);
      // The server ended the stream, so its client did not leave it.
      if (stream.wasLost) await attendance.attend(executionId, watcher, COME_BACK_MS);
      else await attendance.settle({ executionId, watcher });
    };
    void stream.closed.then(leave).catch(this.onError);
  }

  /** Stops the executions whose last client did not come back. Repeatable. */
  async sweep(): Promise<void> {
    for (const one of await this.lifecycle.attendance.abandoned()) await this.stop(one).catch(this.onError);
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
