import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { TokenHolder } from '#libs/access';
import {
  BelayError,
  BOOTSTRAP_NAME,
  burstOf,
  MAX_TOKENS,
  type DefaultRate,
  type RequestRate,
} from '#libs/contracts';
import { RateBucket } from './rate-bucket';
import { RecentMap } from './recent-map';

/**
 * Wrong tokens that one network may show. Clients that still poll with a token that was replaced stay below it: behind a proxy
 * they share an address with everybody else.
 */
export const WRONG_TOKENS: RequestRate = { perSecond: 10, burst: 50 };
/** Networks whose wrong tokens are counted, some 2 MB. */
const MOST_NETWORKS = 10_000;
/** Tokens that are counted: all valid ones, and as many that were revoked meanwhile. */
const MOST_TOKENS = 2 * MAX_TOKENS;

/** Why a request was refused, as the metric names it. */
export const REFUSAL_REASONS = ['token_rate', 'wrong_tokens'] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

/** A valid token. Without a bucket it has no bound. */
interface Known {
  readonly name: string;
  readonly bucket?: RateBucket;
}

/** The facts of a request that its bounds depend on. */
export interface Visit {
  readonly secret: string | undefined;
  /** The address of the client's end of the connection. */
  readonly address: string;
  /** Acts that stop are counted nowhere and refused never. */
  readonly stops: boolean;
}

/**
 * The bounds on requests of one orchestrator (docs/tokens.md#rates): of each token, and of wrong tokens by network. They are
 * counted in this process, so a request that is refused for them costs the state server nothing.
 */
export class RequestRates {
  /** By the SHA-256 of the secret. A token is in it once it was accepted. */
  private readonly known = new RecentMap<Known>(MOST_TOKENS);
  private readonly networks = new RecentMap<RateBucket>(MOST_NETWORKS);

  constructor(
    private readonly fallback: DefaultRate,
    private readonly onRefused: (reason: RefusalReason) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Counts a request before its token is looked up. Where too many wrong tokens came from, one that was never accepted here is
   * not looked up any more; the others are not affected.
   * @returns whether the request was counted
   * @throws BelayError RATE_LIMITED
   */
  admit({ secret, address, stops }: Visit): boolean {
    if (stops || secret === undefined) return false;
    const known = this.known.get(digest(secret));
    if (known !== undefined) {
      this.charge(known);
      return true;
    }
    const waitMs = this.networks.get(networkOf(address))?.waitMs() ?? 0;
    if (waitMs > 0) throw this.refuse('wrong_tokens', tooManyWrong(waitMs));
    return false;
  }

  /**
   * Keeps a token that was accepted, and counts a request that `admit` did not: the first ones of a token, which may come at once.
   * @throws BelayError RATE_LIMITED
   */
  accept({ secret = '', stops }: Visit, holder: TokenHolder, wasCounted: boolean): void {
    const known = this.knownAs(secret, holder);
    if (!wasCounted && !stops) this.charge(known);
  }

  private knownAs(secret: string, { name, rate: own }: TokenHolder): Known {
    const key = digest(secret);
    const before = this.known.get(key);
    if (before !== undefined) return before;
    const rate = own ?? this.fallback;
    // BELAY_TOKEN is for emergencies. It has no record that could have a rate.
    const isFree = name === BOOTSTRAP_NAME || rate === 'off';
    const known = { name, ...(isFree ? {} : { bucket: new RateBucket(rate, this.now) }) };
    this.known.set(key, known);
    return known;
  }

  /** Counts a token that was refused, also one that was valid before. */
  refused({ secret, address }: Visit): void {
    // No token is no guess.
    if (secret === undefined) return;
    this.known.delete(digest(secret));
    const network = networkOf(address);
    const bucket = this.networks.get(network) ?? new RateBucket(WRONG_TOKENS, this.now);
    this.networks.set(network, bucket);
    bucket.take();
  }

  /** Counts a request that turned out to be no stop: a thaw has the route of a kill. @throws BelayError RATE_LIMITED */
  take(secret: string | undefined): void {
    const known = this.known.get(digest(secret ?? ''));
    if (known !== undefined) this.charge(known);
  }

  private charge({ name, bucket }: Known): void {
    const waitMs = bucket?.take() ?? 0;
    if (bucket !== undefined && waitMs > 0)
      throw this.refuse('token_rate', tooMany(name, bucket.rate, waitMs));
  }

  private refuse(reason: RefusalReason, error: BelayError): BelayError {
    this.onRefused(reason);
    return error;
  }
}

const digest = (secret: string): string => createHash('sha256').update(secret).digest('base64');

/** The network of an address: of IPv6 the first 64 bits, since one client has all addresses behind them. */
export function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address;
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? [];
  const first = groupsOf(head);
  const last = groupsOf(tail ?? '');
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0');
  return `${[...first, ...zeros, ...last].slice(0, 4).join(':')}::/64`;
}

const groupsOf = (part: string): string[] => (part === '' ? [] : part.split(':'));

const seconds = (ms: number): string => {
  const whole = Math.ceil(ms / 1_000);
  return whole === 1 ? '1 second' : `${whole} seconds`;
};

function tooMany(name: string, rate: RequestRate, retryAfterMs: number): BelayError {
  const [perSecond, burst] = [rate.perSecond, burstOf(rate)];
  return new BelayError(
    'RATE_LIMITED',
    `The token ${name} may make ${perSecond} requests per second, ${burst} at once, and made more. This request was refused. Try again in ${seconds(retryAfterMs)}. Stops, kills, freezes and latches are always taken. For a higher rate ask an admin: belay token create NAME --rate RATE`,
    { details: { retryAfterMs, perSecond, burst } },
  );
}

function tooManyWrong(retryAfterMs: number): BelayError {
  return new BelayError(
    'RATE_LIMITED',
    `Too many requests with a wrong token came from your address, so this token was not checked. Try again in ${seconds(retryAfterMs)}. Stops, kills, freezes and latches are always checked.`,
    { details: { retryAfterMs } },
  );
}
