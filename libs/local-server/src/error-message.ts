/** An error's message. `instanceof Error` would miss errors of another realm, as in a test's sandbox. */
export function errorMessage(error: unknown): string {
  const { message, code } = (typeof error === 'object' && error !== null ? error : {}) as {
    message?: unknown;
    code?: unknown;
  };
  if (typeof message === 'string' && message !== '') return message;
  // Node joins the failures of a host with several addresses into one error with a code and no message.
  return typeof code === 'string' ? code : String(error);
}
