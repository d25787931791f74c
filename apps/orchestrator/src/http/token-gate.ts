import { createHash, timingSafeEqual } from 'node:crypto';
import type { TokenHolder, TokenStore } from '#libs/access';
import {
  BelayError,
  BOOTSTRAP_NAME,
  isBelayError,
  isTokenSecret,
  ServerUnreachableError,
} from '#libs/contracts';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** The secret in the header of a request; undefined: it has none. */
export const secretOf = (authorization: string | undefined): string | undefined =>
  /^bearer +(\S+)$/i.exec(authorization ?? '')?.[1];

/**
 * Finds the holder of a request's token. Loopback needs one too, since a web page can reach loopback. `BELAY_TOKEN` is compared
 * in constant time without the state server, so it works as long as this process does. The state server looks up all others.
 */
export class TokenGate {
  private readonly bootstrap: Buffer;

  constructor(
    token: string,
    private readonly tokens: Pick<TokenStore, 'holderOf'>,
  ) {
    this.bootstrap = digest(token);
  }

  /** Whether an accepted token is still valid; `BELAY_TOKEN` is valid as long as this process lives. */
  isStillValid(authorization: string | undefined): Promise<boolean> | true {
    const holder = this.holderOf(authorization);
    if (!(holder instanceof Promise)) return true;
    return holder.then(
      () => true,
      (error: unknown) => !isBelayError(error) || error.code !== 'UNAUTHORIZED',
    );
  }

  /** @throws BelayError UNAUTHORIZED */
  holderOf(authorization: string | undefined): TokenHolder | Promise<TokenHolder> {
    const given = secretOf(authorization);
    if (given !== undefined && timingSafeEqual(digest(given), this.bootstrap))
      return { name: BOOTSTRAP_NAME, role: 'admin' };
    if (given === undefined || !isTokenSecret(given))
      throw new BelayError(
        'UNAUTHORIZED',
        'A valid token is needed: Authorization: Bearer TOKEN. It is in the file "token" of the data directory.',
      );
    return this.tokens.holderOf(given).catch((error: unknown) => {
      // To the caller nothing was done, since the look-up of a token is no act.
      if (isBelayError(error) && error.code === 'OUTCOME_UNKNOWN')
        throw new ServerUnreachableError('its address', error);
      throw error;
    });
  }
}
