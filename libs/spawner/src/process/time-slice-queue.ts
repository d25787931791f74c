/** Jobs of one queue may block the event loop for this long in one turn, milliseconds. */
const SLICE_MS = 8;

/**
 * Runs short synchronous jobs in order, a few milliseconds' worth per turn of the event loop. Otherwise a thousand trees that
 * are stopped in one turn would block the loop, and with it the worker's heartbeat, for hundreds of milliseconds of small file
 * reads.
 */
export class TimeSliceQueue {
  readonly #jobs: (() => void)[] = [];
  #sliceStart: number | undefined;

  /** Runs a job at once while this turn has time left, else in a later one. Rejects with the job's error. */
  run<T>(job: () => T): Promise<Awaited<T>> {
    return new Promise((resolve, reject) => {
      const attempt = (): void => {
        try {
          resolve(job() as Awaited<T>); // a promise is followed, as usual
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
