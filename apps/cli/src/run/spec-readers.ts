/** What is used of #libs/executions; loaded only by `run`, because it brings the server's libraries with it. */
export interface SpecReaders {
  parseSpecText(text: string | Uint8Array, options?: { readonly fileName?: string }): unknown;
  isWfFormat(raw: unknown): boolean;
  convertWfFormat(
    raw: unknown,
    options: { readonly timeScale?: number },
  ): { readonly spec: unknown; readonly report: unknown };
}

export async function loadSpecReaders(): Promise<SpecReaders> {
  return (await import('#libs/executions')) as unknown as SpecReaders;
}
