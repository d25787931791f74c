/** Everything else of this process gets a turn: a health question, a kill. Awaited between the steps of long work. */
export const turn = async (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
