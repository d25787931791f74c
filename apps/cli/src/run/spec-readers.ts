import type { convertWfFormat, isWfFormat, parseSpecText } from '#libs/executions';

/** The parts of #libs/executions that the command uses. */
export interface SpecReaders {
  readonly parseSpecText: typeof parseSpecText;
  readonly isWfFormat: typeof isWfFormat;
  readonly convertWfFormat: typeof convertWfFormat;
}

/** Loaded only for reading a file, since it loads the server's libraries too. */
export async function loadSpecReaders(): Promise<SpecReaders> {
  return await import('#libs/executions');
}
