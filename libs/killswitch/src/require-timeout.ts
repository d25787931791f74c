import { isBelayError } from '#libs/contracts';

/**
 * Passes only the end of a wait by its time-out. A wait that ends because its process stops decides nothing. @throws any other
 * error
 */
export function requireTimeout(error: unknown): void {
  if (!isBelayError(error) || error.code !== 'TIMEOUT') throw error;
}
