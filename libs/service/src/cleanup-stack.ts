/** The resources that a start has made so far: released in reverse order when the rest of it fails. */
export class CleanupStack {
  private readonly acts: (() => unknown)[] = [];

  /** Notes how something that was just made is given back, and hands it on. */
  add<T>(made: T, act: (made: T) => unknown): T {
    this.acts.push(() => act(made));
    return made;
  }

  /** One that fails does not keep the others. Never rejects. */
  async all(): Promise<void> {
    for (let act = this.acts.pop(); act !== undefined; act = this.acts.pop()) {
      try {
        await act();
      } catch {
        // The start fails with its own error; the rest is given back all the same.
      }
    }
  }
}

/** Runs `make`; when it fails, what it noted is given back before its error goes on. */
export async function allOrNothing<T>(make: (parts: CleanupStack) => Promise<T>): Promise<T> {
  const parts = new CleanupStack();
  try {
    return await make(parts);
  } catch (error) {
    await parts.all();
    throw error;
  }
}
