/** How long jobs of one queue may hold the event loop in one turn, milliseconds. */
const SLICE_MS = 8;

/**
 * Runs short synchronous jobs in the order of asking, a few milliseconds' worth per turn of the event loop. A
 * thousand trees stopped in one turn would otherwise hold the loop for hundreds of milliseconds of small file reads,
 * and with it the worker's heartbeat.
 */
export class TimeSliceQueue {
  readonly #jobs: (() => void)[] = [];
  #sliceStart: number | undefined;

  /** At once while this turn has time left, else in a later one. Rejects with what the job throws. */
  run<T>(job: () => T): Promise<Awaited<T>> {
    return new Promise((resolve, reject) => {
      const attempt = (): void => {
        try {
          resolve(job() as Awaited<T>); // a promise is followed, as always
        } catch (error) {
          reject(error);
        }
      };
      if (this.#sliceStart === undefined) this.#openSlice();
      if (this.#jobs.length === 0 && this.#timeLeft()) attempt();
      else this.#jobs.push(attempt);
    });
  }

  #openSlice(): void {
    this.#sliceStart = performance.now();
    setImmediate(() => this.#nextTurn());
  }

  #nextTurn(): void {
    this.#sliceStart = undefined;
    if (this.#jobs.length === 0) return;
    this.#openSlice();
    let done = 0;
    while (done < this.#jobs.length && this.#timeLeft()) {
      this.#jobs[done]?.();
      done += 1;
    }
    this.#jobs.splice(0, done);
  }

  #timeLeft(): boolean {
    return this.#sliceStart !== undefined && performance.now() - this.#sliceStart < SLICE_MS;
  }
}
