/** The resources that a start has made so far. They are released in reverse order when the rest of the start fails. */
export class CleanupStack {
  private readonly acts: (() => unknown)[] = [];

  /** Notes how to release a new resource, and returns the resource. */
  add<T>(made: T, act: (made: T) => unknown): T {
    this.acts.push(() => act(made));
    return made;
  }

  /** Releases all. A failing release does not stop the others. Never rejects. */
  async all(): Promise<void> {
    for (let act = this.acts.pop(); act !== undefined; act = this.acts.pop()) {
      try {
        await act();
      } catch {
        // The start fails with its own error; the other resources are released all the same.
      }
    }
  }
}

/** Runs `make`. When it fails, releases its resources before the error goes on. */
export async function allOrNothing<T>(make: (parts: CleanupStack) => Promise<T>): Promise<T> {
  const parts = new CleanupStack();
  try {
    return await make(parts);
  } catch (error) {
    await parts.all();
    throw error;
  }
}
