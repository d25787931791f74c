import { createHash, randomBytes } from 'node:crypto';
import type { OnApplicationBootstrap, OnApplicationShutdown } from '@nestjs/common';
import {
  BelayError,
  conditionsOf,
  isTokenSecret,
  MAX_TOKENS,
  NotFoundError,
  type Caller,
  type CreatedToken,
  type RevokedToken,
  type Signature,
  type TokenRecord,
  type TokenRequest,
} from '#libs/contracts';
import type { ControlSettings } from '#libs/killswitch';
import { ExpiringMap, parseStored, type ScriptReply, type Valkey } from '#libs/valkey';
import type { Subscription } from 'rxjs';

const SECRET_BYTES = 32;
/** The last use of a token is stored once in this time. Milliseconds. */
const USE_KNOWN_TO_MS = 60_000;

/** A revocation by this process, which stores it again if a failover lost it. */
interface Revocation {
  readonly name: string;
  readonly hash: string;
  readonly said: Signature;
}

/** The name under which a caller with a valid token acts, its rights, and the bound on its requests if it has one of its own. */
export type TokenHolder = Omit<Caller, 'requestId'> & Pick<TokenRecord, 'rate'>;

/**
 * The named tokens (ADR 0025). The store has the SHA-256 of each secret, and finds a token by it, so no code compares secrets.
 * There is no cache: each request asks the store, so a revocation is in force at every orchestrator from its next request on.
 */
export class TokenStore implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly revoked: ExpiringMap<Revocation>;
  private renewals: Subscription | undefined;

  constructor(
    private readonly valkey: Valkey,
    private readonly settings: ControlSettings,
    private readonly onError: (error: unknown) => void = () => undefined,
  ) {
    this.revoked = new ExpiringMap(settings.recentMs);
  }

  /** Nest calls it. From here on a failover undoes no revocation of this process. */
  onApplicationBootstrap(): void {
    this.renewals ??= this.valkey.renewed$.subscribe(() => void this.recall());
  }

  /** Nest calls it. */
  onApplicationShutdown(): void {
    this.renewals?.unsubscribe();
    this.renewals = undefined;
  }

  /**
   * The holder of a secret. @throws BelayError UNAUTHORIZED for an unknown, revoked or expired one · OUTCOME_UNKNOWN while the
   * state server is away
   */
  async holderOf(secret: string): Promise<TokenHolder> {
    if (!isTokenSecret(secret)) throw unauthorized('The token is not known here.');
    const { keys, scripts } = this.valkey;
    const reply = await scripts.json('useToken', this.key, [keys.control, hashOf(secret), USE_KNOWN_TO_MS]);
    const { refused } = reply;
    if (refused === 'REVOKED') throw unauthorized(`The token ${String(reply['name'])} was revoked.`);
    if (refused === 'EXPIRED') throw unauthorized(`The token ${String(reply['name'])} has expired.`);
    if (refused !== undefined) throw unauthorized('The token is not known here.');
    const { name, role, selector, rate } = this.read(reply);
    return {
      name,
      role,
      ...(selector === undefined ? {} : { selector: conditionsOf(selector) }),
      ...(rate === undefined ? {} : { rate }),
    };
  }

  /** Makes a token. Only this answer contains its secret. @throws BelayError TOKEN_EXISTS · TOO_MANY_TOKENS */
  async create({ expiresInMs, ...request }: TokenRequest, said: Signature): Promise<CreatedToken> {
    const secret = `belay_${randomBytes(SECRET_BYTES).toString('base64url')}`;
    const reply = await this.call('createToken', hashOf(secret), [
      JSON.stringify(request),
      expiresInMs ?? '',
      JSON.stringify(said),
      MAX_TOKENS,
    ]);
    const mark = this.valkey.replication.mark(this.key);
    if (reply.refused === 'TOKEN_EXISTS') throw taken(request.name);
    if (reply.refused !== undefined) throw tooMany();
    return { token: this.read(reply), secret, ...(await this.replicated(mark)) };
  }

  /** Revokes a token: from here on every orchestrator refuses it. Repeatable. @throws NotFoundError */
  async revoke(name: string, said: Signature): Promise<RevokedToken> {
    const reply = await this.call('revokeToken', name, [JSON.stringify(said), '']);
    const mark = this.valkey.replication.mark(this.key);
    if (reply.refused !== undefined) throw new NotFoundError('token', name);
    const hash = String(reply['hash']);
    this.revoked.add(hash, { name, hash, said });
    return {
      token: this.read(reply),
      already: reply['already'] === true,
      ...(await this.replicated(mark)),
    };
  }

  /** After a failover: repeats this process's revocations of the last minute. Repeatable; never rejects. */
  async recall(): Promise<void> {
    for (const { name, hash, said } of this.revoked.list())
      await this.call('revokeToken', name, [JSON.stringify(said), hash]).catch(this.onError);
  }

  /** All stored tokens, by name. Revoked and expired ones are kept as long as ended executions are. */
  async list(): Promise<TokenRecord[]> {
    const { redis, keys, quarantine } = this.valkey;
    const [rows, used] = await quarantine.reading(this.key, async () =>
      Promise.all([redis.hgetall(this.key), redis.hgetall(keys.shard(keys.control, 'tokens:used'))]),
    );
    return Object.values(rows)
      .map((text) => parseStored<TokenRecord>(this.key, text))
      .map((token) => ({
        ...token,
        ...(used[token.name] === undefined ? {} : { lastUsedAt: Number(used[token.name]) }),
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  private get key(): string {
    const { keys } = this.valkey;
    return keys.shard(keys.control, 'tokens');
  }

  private async call(
    name: 'createToken' | 'revokeToken',
    id: string,
    rest: readonly (string | number)[],
  ): Promise<ScriptReply> {
    const { keys, scripts } = this.valkey;
    return scripts.json(name, this.key, [keys.control, id, this.settings.text, ...rest]);
  }

  private read(reply: ScriptReply): TokenRecord {
    return parseStored<TokenRecord>(this.key, String(reply['token']));
  }

  private async replicated(
    mark: ReturnType<Valkey['replication']['mark']>,
  ): Promise<{ replicated?: boolean }> {
    const replicated = await this.valkey.replication.reached(mark);
    return replicated === undefined ? {} : { replicated };
  }
}

const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

function unauthorized(why: string): BelayError {
  return new BelayError(
    'UNAUTHORIZED',
    `${why} Ask an admin for another: belay token create NAME --role ROLE`,
  );
}

function taken(name: string): BelayError {
  return new BelayError(
    'TOKEN_EXISTS',
    `There is a valid token ${name}. Choose another name, or revoke it first: belay token revoke ${name}`,
  );
}

function tooMany(): BelayError {
  return new BelayError(
    'TOO_MANY_TOKENS',
    `There are ${MAX_TOKENS} tokens already. Revoke those that are not needed: belay token list`,
  );
}
