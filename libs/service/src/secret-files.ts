import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { BelayError, type Problem } from '#libs/contracts';

/** The secrets among the settings. Other processes of the same user can read an environment in /proc. */
const SECRETS = [
  { name: 'BELAY_TOKEN', credential: 'belay-token' },
  { name: 'BELAY_VALKEY_URL', credential: 'belay-valkey-url' },
] as const;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The environment with its secrets read from files: `BELAY_TOKEN_FILE`, `BELAY_VALKEY_URL_FILE`, or the systemd credentials
 * `belay-token` and `belay-valkey-url` (`LoadCredential=`). A file must be this user's or root's and closed to others. Nothing
 * is written to this process's environment.
 * @throws BelayError INVALID_SETTINGS with every fault; no secret is in a message.
 */
export function withSecretFiles(env: Environment): Record<string, string | undefined> {
  const read: Record<string, string | undefined> = { ...env };
  const problems: Problem[] = [];
  for (const { name, credential } of SECRETS) {
    const variable = `${name}_FILE`;
    const named = env[variable] ?? '';
    delete read[variable];
    const given = (env[name] ?? '') !== '';
    if (given && named !== '')
      problems.push({
        path: variable,
        code: 'TWICE',
        message: `is set beside ${name}: unset one of the two.`,
      });
    if (given) continue;
    const path = named === '' ? credentialOf(env, credential) : named;
    if (path === undefined) continue;
    const found = readSecretFile(path, `unset ${variable}`);
    if ('text' in found) read[name] = found.text;
    else problems.push({ path: variable, code: 'BAD_FILE', message: `${path} ${found.fault}.` });
  }
  if (problems.length === 0) return read;
  const lines = problems.map(({ path, message }) => `${path}: ${message}`).join('\n  ');
  throw new BelayError('INVALID_SETTINGS', `Secrets cannot be read from their files.\n  ${lines}`, {
    problems,
  });
}

/**
 * As `withSecretFiles`, and removes the secrets from `env`, so that processes started later do not get them. Another process of
 * the same user could read them there in /proc.
 * @throws BelayError INVALID_SETTINGS, and leaves `env` as it is
 */
export function takeSecrets(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  const read = withSecretFiles(env);
  for (const { name } of SECRETS) delete env[name];
  return read;
}

function credentialOf(env: Environment, name: string): string | undefined {
  const folder = env['CREDENTIALS_DIRECTORY'] ?? '';
  if (folder === '') return undefined;
  const path = join(folder, name);
  return statSync(path, { throwIfNoEntry: false }) === undefined ? undefined : path;
}

/**
 * The text of a file with a secret: this user's or root's, and closed to others. The fault has no part of the text.
 * @param otherwise what to do instead of writing a file that is not there
 */
export function readSecretFile(path: string, otherwise: string): { text: string } | { fault: string } {
  let file: number | undefined;
  try {
    // Checks and reads one open file, and does not wait on a FIFO.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = fstatSync(file);
    if (!found.isFile()) return { fault: 'is not a file: name the file with the secret' };
    const own = process.getuid?.();
    if (found.uid !== 0 && found.uid !== own)
      return { fault: `is another user’s: chown ${own ?? 'USER'} ${path}` };
    // systemd shows a credential's access list as the group's right to read.
    const closed = found.uid === 0 ? 0o037 : 0o077;
    if ((found.mode & closed) !== 0) return { fault: `is open to others: chmod 600 ${path}` };
    const text = readFileSync(file, 'utf8').trim();
    return text === '' ? { fault: 'is empty: write the secret into it' } : { text };
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { fault: `is not there: write the secret into it, or ${otherwise}` };
    return { fault: `cannot be read (${code}): give this user the right to, or name another file` };
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
