/** Lets other work of this process run: a health question, a kill. Awaited between the steps of long work. */
export const turn = async (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
