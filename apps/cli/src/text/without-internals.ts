/** A server's message without the names of internal functions: they mean nothing to a user. */
export function withoutInternals(message: string): string {
  return message.replaceAll(
    /The reply to script \w+ was lost; it may have run\./g,
    "The state server's reply was lost: the call may or may not have been carried out.",
  );
}
