/** A message of the server's without the names of what runs inside it: they say nothing to a user. */
export function withoutInternals(message: string): string {
  return message.replaceAll(
    /The reply to script \w+ was lost; it may have run\./g,
    "The state server's reply was lost: the call may or may not have been carried out.",
  );
}
