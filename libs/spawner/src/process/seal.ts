import { createHmac } from 'node:crypto';

/**
 * By which a file of a worker's in the data directory is told from a forgery: agents of the worker's user can write there. The key
 * is known to the worker, its guardian and the server.
 */
export interface ProofSeal {
  /** The worker whose key signed it: of a proof the dead one, also for its guardian, or the one that reaped it. */
  readonly signer: string;
  readonly text: string;
  readonly signature: string;
}

/** `unknown`: there is no key of that worker. */
export type SealVerdict = 'right' | 'wrong' | 'unknown';

/** Asks who knows the key. Rejects where that cannot be found out now. */
export type CheckSeal = (seal: ProofSeal) => Promise<SealVerdict>;

/** The text of a file. @param key a secret. */
export function sealed(value: object, key: string): string {
  const signature = createHmac('sha256', key).update(JSON.stringify(value)).digest('hex');
  return JSON.stringify({ ...value, signature });
}

/** Parts the value in such a file from its signature; undefined where it has none. */
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
