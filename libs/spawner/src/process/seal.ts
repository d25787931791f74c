import { createHmac } from 'node:crypto';

/**
 * Tells a worker's file in the data directory from a forgery: agents of the worker's user can write there. Worker, guardian and
 * server know the key.
 */
export interface ProofSeal {
  /**
   * The worker whose key signed it. A proof is signed with the dead worker's key, also by its guardian, or with the reaper's.
   */
  readonly signer: string;
  readonly text: string;
  readonly signature: string;
}

/** `unknown`: no key of that worker is registered. */
export type SealVerdict = 'right' | 'wrong' | 'unknown';

/** Asks the server, which knows the keys. Rejects where it does not answer now. */
export type CheckSeal = (seal: ProofSeal) => Promise<SealVerdict>;

/** The text of a file. @param key a secret. */
export function sealed(value: object, key: string): string {
  const signature = createHmac('sha256', key).update(JSON.stringify(value)).digest('hex');
  return JSON.stringify({ ...value, signature });
}

/** Separates the value in such a file from its signature; undefined where it has none. */
export function unsealed<T extends object>(
  value: T & { readonly signature?: unknown },
): { readonly value: T; readonly text: string; readonly signature: string | undefined } {
  const { signature, ...rest } = value;
  return {
    value: rest as unknown as T,
    text: JSON.stringify(rest),
    signature: typeof signature === 'string' ? signature : undefined,
  };
}
