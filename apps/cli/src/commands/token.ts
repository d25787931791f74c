import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import {
  formatRate,
  parseDuration,
  parseRate,
  RATE_RULE,
  ROLES,
  type CreatedToken,
  type RequestRate,
  type Role,
  type TokenRecord,
  type TokenRequest,
} from '#libs/contracts';
import { UsageError } from '../exit-codes';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

interface CreateOptions {
  readonly role: Role;
  readonly selector?: string;
  readonly expires?: number;
  readonly to?: string;
  readonly rate?: RequestRate;
}

/** `token create`, `list` and `revoke`. */
export function addToken(program: Command, bind: Bind): void {
  const token = program.command('token').description('the named tokens and their roles');
  token
    .command('create')
    .description('make a token; its secret is shown once')
    .argument('<name>', 'the name that its acts are recorded under')
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).makeOptionMandatory())
    .option('-l, --selector <labels>', "bind it to these labels, such as 'tenant=a'")
    .option(
      '--expires <duration>',
      'how long it is valid, such as 12h or 30d; else until it is revoked',
      parseLife,
    )
    .option(
      '--rate <rate>',
      'its requests per second, perhaps with a burst, such as 50 or 50:200; else BELAY_HTTP_RATE',
      parseRateOption,
    )
    .option('--to <file>', 'write the secret to a new file that only you may read, and show it nowhere')
    .action(bind(async (session, name: string, options: CreateOptions) => create(session, name, options)));
  token
    .command('list')
    .description('list the tokens, also those that are revoked or have expired')
    .action(
      bind(async (session) => {
        const { items } = await session.client.tokens();
        if (session.isJson) return session.json({ items });
        if (items.length === 0)
          return session.note(
            'There are no named tokens. Make one with: belay token create NAME --role ROLE',
          );
        session.print(renderTokens(items, session.width, Date.now()));
      }),
    );
  token
    .command('revoke')
    .description('revoke a token: no orchestrator accepts it any more')
    .argument('<name>')
    .action(
      bind(async (session, name: string) => {
        const revoked = await session.client.revokeToken(name);
        if (session.isJson) return session.json(revoked);
        const { token: record, already } = revoked;
        const { name: shown, revokedBy = '', revokedAt = NaN } = record;
        session.print(
          already
            ? `${shown} was revoked by ${cleanText(revokedBy)} at ${formatTime(revokedAt)} (before this call)`
            : `${shown} is revoked: no orchestrator accepts it any more`,
        );
      }),
    );
}

async function create(session: Session, name: string, options: CreateOptions): Promise<void> {
  const { role, selector, expires, rate, to } = options;
  const request: TokenRequest = {
    name,
    role,
    ...(selector === undefined ? {} : { selector }),
    ...(expires === undefined ? {} : { expiresInMs: expires }),
    ...(rate === undefined ? {} : { rate }),
  };
  const path = to === undefined ? undefined : resolve(session.process.cwd, to);
  // Before the token is made: a secret that cannot be written would be lost.
  const file = path === undefined ? undefined : openNew(path);
  let created: CreatedToken;
  try {
    created = await session.client.createToken(request);
    if (file !== undefined) writeSecret(file, created);
  } catch (error) {
    if (path !== undefined) unlinkSync(path);
    throw error;
  } finally {
    if (file !== undefined) closeSync(file);
  }
  tell(session, created, path);
}

function tell(session: Session, { secret, ...rest }: CreatedToken, path: string | undefined): void {
  const { token } = rest;
  if (session.isJson) return session.json(path === undefined ? { ...rest, secret } : { ...rest, file: path });
  const bound = token.selector === undefined ? '' : `, bound to ${token.selector}`;
  const until = token.expiresAt === undefined ? '' : `, until ${formatTime(token.expiresAt)}`;
  const rate = token.rate === undefined ? '' : `, at most ${formatRate(token.rate)} requests per second`;
  session.note(`made ${token.name}: ${token.role}${bound}${rate}${until}`);
  if (path === undefined) {
    session.note('Its secret is shown this once, and stored nowhere:');
    session.printRaw(secret);
  } else session.print(`the secret is in ${path}`);
}

function writeSecret(file: number, { secret, token }: CreatedToken): void {
  try {
    writeSync(file, `${secret}\n`);
  } catch (error) {
    const why = (error as Error).message;
    const next = `belay token revoke ${token.name}`;
    throw new Error(`The secret could not be written (${why}) and is lost. Next: ${next}`, { cause: error });
  }
}

/** Opens a new file that nobody else may read. @throws UsageError where the file exists, or cannot be made */
function openNew(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'EEXIST' ? 'the file exists' : (error as Error).message;
    throw new UsageError(`--to ${path} cannot be made: ${why}. No token was made.`);
  }
}

/** One row for each token. */
export function renderTokens(tokens: readonly TokenRecord[], width: number, now: number): string {
  return renderTable({
    head: ['NAME', 'ROLE', 'STATE', 'LABELS', 'RATE', 'LAST USE', 'MADE BY', 'EXPIRES'],
    rows: tokens.map((token) => [
      cleanText(token.name),
      token.role,
      stateOf(token, now),
      token.selector === undefined ? 'all' : cleanText(token.selector),
      token.rate === undefined ? 'default' : formatRate(token.rate),
      token.lastUsedAt === undefined ? 'never' : formatTime(token.lastUsedAt),
      cleanText(token.createdBy),
      token.expiresAt === undefined ? 'never' : formatTime(token.expiresAt),
    ]),
    width,
    flexible: 3,
  });
}

function stateOf({ revokedAt, expiresAt }: TokenRecord, now: number): string {
  if (revokedAt !== undefined) return 'revoked';
  return expiresAt !== undefined && expiresAt <= now ? 'expired' : 'valid';
}

function parseLife(text: string): number {
  // A bare number is milliseconds in settings. Here it could easily mean days.
  const ms = /[a-z]$/.test(text.trim()) ? parseDuration(text) : undefined;
  if (ms !== undefined) return ms;
  throw new InvalidArgumentError(`"${text}" is not a duration such as 12h or 30d.`);
}

function parseRateOption(text: string): RequestRate {
  const rate = parseRate(text);
  if (rate !== undefined) return rate;
  throw new InvalidArgumentError(`It must be ${RATE_RULE}.`);
}
