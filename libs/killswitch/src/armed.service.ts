import type { ArmedAnswer, ArmedReport } from '#libs/contracts';
import type { LifecycleService } from '#libs/lifecycle';
import type { ChangeFeed } from '#libs/valkey';
import { ulid } from 'ulid';
import type { ArmedStore, GuardAnswer } from './armed-store';
import { requireTimeout } from './require-timeout';

/** A guard that does not answer within this is not armed (docs/killswitch.md#before-you-need-it). Milliseconds. */
const ANSWER_MS = 2_000;

/**
 * A nonce is published and not stored, so a guard misses it while its subscription is renewed. Guards that have not answered
 * are asked again after each of these. Milliseconds.
 */
const ASK_AGAIN_MS = 250;

/** Answers "Can Belay stop everything now?": sends a nonce over the channel of kills, which every worker's guard answers. */
export class ArmedService {
  constructor(
    private readonly lifecycle: LifecycleService,
    private readonly store: ArmedStore,
    private readonly feed: ChangeFeed,
  ) {}

  /** Asks every worker that is running or draining. With no worker at all nothing is armed. */
  async ask(): Promise<ArmedReport> {
    const nonce = ulid();
    const workers = await this.lifecycle.workers.list(['running', 'draining']);
    const askedAt = performance.now();
    const seenAfter = new Map<string, number>();
    await this.store.ask(nonce);
    let asking: Promise<void> | undefined;
    const again = setInterval(() => {
      asking ??= this.store
        .ask(nonce)
        // The next try is due soon, and reading the answers reports a server that is gone.
        .catch(() => undefined)
        .finally(() => (asking = undefined));
    }, ASK_AGAIN_MS);
    const look = async (): Promise<ReadonlyMap<string, GuardAnswer> | undefined> => {
      const answers = await this.store.answers(nonce);
      for (const id of answers.keys())
        if (!seenAfter.has(id)) seenAfter.set(id, Math.round(performance.now() - askedAt));
      return workers.every(({ id }) => answers.has(id)) ? answers : undefined;
    };
    const answers = await this.feed
      .until(look, (event) => event.type === 'worker.armed', {
        timeoutMs: ANSWER_MS,
        what: 'The answer of every worker',
      })
      .catch(async (error: unknown) => {
        requireTimeout(error);
        return this.store.answers(nonce);
      })
      .finally(() => clearInterval(again));
    const report = workers.map(({ id }): ArmedAnswer => {
      const answer = answers.get(id);
      if (answer === undefined)
        return { workerId: id, armed: false, detail: `no answer within ${ANSWER_MS} ms` };
      const after = seenAfter.get(id);
      return {
        workerId: id,
        ...answer,
        armed: answer.guardian,
        ...(after === undefined ? {} : { afterMs: after }),
        ...(answer.guardian ? {} : { detail: 'it obeys, but its guardian does not answer' }),
      };
    });
    return { armed: report.length > 0 && report.every(({ armed }) => armed), nonce, workers: report };
  }
}
