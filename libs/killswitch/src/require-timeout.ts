import { isBelayError } from '#libs/contracts';

/** Only a wait whose time is over decides anything: one that ended because its process stops does not. @throws any other error */
export function requireTimeout(error: unknown): void {
  if (!isBelayError(error) || error.code !== 'TIMEOUT') throw error;
}
