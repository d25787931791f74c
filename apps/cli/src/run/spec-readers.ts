import type { convertWfFormat, isWfFormat, parseSpecText } from '#libs/executions';

/** The parts of #libs/executions that the command uses. */
export interface SpecReaders {
  readonly parseSpecText: typeof parseSpecText;
  readonly isWfFormat: typeof isWfFormat;
  readonly convertWfFormat: typeof convertWfFormat;
}

/** Loaded only where a file is read, because it brings the server's libraries with it. */
export async function loadSpecReaders(): Promise<SpecReaders> {
  return await import('#libs/executions');
}
