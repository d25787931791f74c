import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withSecretFiles } from './secret-files';

describe('R66 secrets from files', () => {
  let dir: string;
  beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'belay-secrets-'))));
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const file = (name: string, text: string, mode = 0o600): string => {
    const path = join(dir, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };
  const fault = (env: Record<string, string>): string => {
    try {
      withSecretFiles(env);
    } catch (error) {
      return (error as Error).message;
    }
    throw new Error('it was taken');
  };

  it('are taken from the files that are named, which are no settings themselves', () => {
    const BELAY_TOKEN_FILE = file('a', 'the-token\n');
    const BELAY_VALKEY_URL_FILE = file('b', 'redis://:secret@host');
    expect(withSecretFiles({ OTHER: '1', BELAY_TOKEN_FILE, BELAY_VALKEY_URL_FILE })).toEqual({
      OTHER: '1',
      BELAY_TOKEN: 'the-token',
      BELAY_VALKEY_URL: 'redis://:secret@host',
    });
  });

  it('are taken from systemd’s credentials, where nothing else is given', () => {
    file('belay-token', 'of-systemd', 0o400);
    const env = { CREDENTIALS_DIRECTORY: dir };
    expect(withSecretFiles(env)).toEqual({ ...env, BELAY_TOKEN: 'of-systemd' });
    expect(withSecretFiles({ ...env, BELAY_TOKEN: 'mine' })['BELAY_TOKEN']).toBe('mine');
    const BELAY_TOKEN_FILE = file('other', 'named');
    expect(withSecretFiles({ ...env, BELAY_TOKEN_FILE })['BELAY_TOKEN']).toBe('named');
  });

  it('are refused from a file that others may read, that is empty or absent, or beside the variable; all at once', () => {
    const open = file('open', 'secret-text', 0o644);
    expect(fault({ BELAY_TOKEN_FILE: open })).toContain(
      `BELAY_TOKEN_FILE: ${open} is open to others: chmod 600`,
    );
    expect(fault({ BELAY_TOKEN_FILE: open })).not.toContain('secret-text');
    const all = fault({ BELAY_TOKEN_FILE: file('empty', '\n'), BELAY_VALKEY_URL_FILE: join(dir, 'absent') });
    expect(all).toContain('is empty: write the secret into it');
    expect(all).toContain('absent is not there: write the secret into it, or unset BELAY_VALKEY_URL_FILE');
    expect(fault({ BELAY_TOKEN: 'x', BELAY_TOKEN_FILE: file('c', 'y') })).toContain('beside BELAY_TOKEN');
  });
});
