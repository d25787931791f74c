import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT } from '../exit-codes';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const AT = Date.UTC(2026, 10, 21, 2, 30, 1);
const SECRET = `belay_${'s'.repeat(43)}`;
const TOKEN = {
  name: 'pager',
  role: 'stopper',
  selector: 'tenant=a',
  createdAt: AT,
  createdBy: 'admin',
  expiresAt: AT + 1_000,
};

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
let cwd: string;
useScriptedServer((server) => ({ asked, routes, belay, cwd } = server));

describe('R65 belay token', () => {
  it('makes a token and shows its secret once, alone on stdout', async () => {
    routes['POST /api/tokens'] = [201, { token: TOKEN, secret: SECRET }];
    const args = ['token', 'create', 'pager', '--role', 'stopper', '-l', 'tenant=a', '--expires', '30d'];
    expect(await belay(args)).toMatchObject({
      code: 0,
      out: `${SECRET}\n`,
      err:
        'made pager: stopper, bound to tenant=a, until 2026-11-21 02:30:02Z\n' +
        'Its secret is shown this once, and stored nowhere:\n',
    });
    expect(asked.at(-1)).toBe(
      'POST /api/tokens {"name":"pager","role":"stopper","selector":"tenant=a","expiresInMs":2592000000}',
    );
    expect(JSON.parse((await belay([...args, '--json'])).out)).toEqual({ token: TOKEN, secret: SECRET });
  });

  it('writes the secret to a new file that only its owner may read, and shows it nowhere', async () => {
    routes['POST /api/tokens'] = [201, { token: TOKEN, secret: SECRET }];
    const args = ['token', 'create', 'pager', '--role', 'stopper', '--to', 'pager.token'];
    const made = await belay(args);
    const file = join(cwd, 'pager.token');
    expect(made).toMatchObject({ code: 0, out: `the secret is in ${file}\n` });
    expect(made.out + made.err).not.toContain(SECRET);
    expect(readFileSync(file, 'utf8')).toBe(`${SECRET}\n`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { length } = asked;
    const again = await belay(args);
    expect(again).toMatchObject({ code: EXIT.usage });
    expect(again.err).toContain('the file exists. No token was made.');
    expect(asked).toHaveLength(length);
    const json = await belay([...args.slice(0, -1), 'other.token', '--json']);
    expect(JSON.parse(json.out)).toEqual({ token: TOKEN, file: join(cwd, 'other.token') });
  });

  it('leaves no file where no token was made', async () => {
    routes['POST /api/tokens'] = [409, { code: 'TOKEN_EXISTS', detail: 'There is a valid token pager.' }];
    const made = await belay(['token', 'create', 'pager', '--role', 'stopper', '--to', 'none.token']);
    expect(made).toMatchObject({ code: EXIT.failed, err: 'belay: There is a valid token pager.\n' });
    expect(existsSync(join(cwd, 'none.token'))).toBe(false);
  });

  it('makes one with a rate of its own', async () => {
    const token = { ...TOKEN, rate: { perSecond: 5, burst: 20 } };
    routes['POST /api/tokens'] = [201, { token, secret: SECRET }];
    const made = await belay(['token', 'create', 'pager', '--role', 'stopper', '--rate', '5:20']);
    expect(made.err).toContain('stopper, bound to tenant=a, at most 5:20 requests per second, until');
    expect(asked.at(-1)).toBe(
      'POST /api/tokens {"name":"pager","role":"stopper","rate":{"perSecond":5,"burst":20}}',
    );
  });

  it('asks nothing for a role, a time or a rate that there is not', async () => {
    const viewer = ['--role', 'viewer'];
    for (const wrong of [['--role', 'boss'], [...viewer, '--expires', '30'], [...viewer, '--rate', '0'], []])
      expect(await belay(['token', 'create', 'x', ...wrong])).toMatchObject({ code: EXIT.usage });
    expect(asked).toEqual([]);
  });

  it('lists tokens with their state, and the last use', async () => {
    const { expiresAt: _, selector: __, ...plain } = TOKEN;
    const items = [
      TOKEN,
      { ...plain, name: 'old', revokedAt: AT, revokedBy: 'admin' },
      { ...plain, name: 'ops', role: 'operator', lastUsedAt: AT, rate: { perSecond: 5, burst: 20 } },
    ];
    routes['GET /api/tokens'] = [200, { items }];
    expect((await belay(['token', 'list'])).out).toBe(
      'NAME   ROLE      STATE    LABELS    RATE     LAST USE              MADE BY  EXPIRES\n' +
        'pager  stopper   expired  tenant=a  default  never                 admin    2026-11-21 02:30:02Z\n' +
        'old    stopper   revoked  all       default  never                 admin    never\n' +
        'ops    operator  valid    all       5:20     2026-11-21 02:30:01Z  admin    never\n',
    );
    expect(JSON.parse((await belay(['token', 'list', '--json'])).out)).toEqual({ items });
    routes['GET /api/tokens'] = [200, { items: [] }];
    expect((await belay(['token', 'list'])).err).toContain('There are no named tokens.');
  });

  it('revokes one, and says when it was so before', async () => {
    const token = { ...TOKEN, revokedAt: AT, revokedBy: 'ann' };
    routes['POST /api/tokens/pager/revoke'] = [200, { token, already: false }];
    expect((await belay(['token', 'revoke', 'pager'])).out).toBe(
      'pager is revoked: no orchestrator accepts it any more\n',
    );
    routes['POST /api/tokens/pager/revoke'] = [200, { token, already: true }];
    expect((await belay(['token', 'revoke', 'pager'])).out).toBe(
      'pager was revoked by ann at 2026-11-21 02:30:01Z (before this call)\n',
    );
    expect(JSON.parse((await belay(['token', 'revoke', 'pager', '--json'])).out)).toEqual({
      token,
      already: true,
    });
  });

  it('R65 a refusal for the rate says when to try again, and ends with code 5', async () => {
    const detail =
      'The token v may make 5 requests per second, 20 at once, and made more. Try again in 1 second.';
    routes['GET /api/tokens'] = [429, { code: 'RATE_LIMITED', detail, details: { retryAfterMs: 200 } }];
    expect(await belay(['token', 'list'])).toMatchObject({
      code: EXIT.unreachable,
      out: '',
      err: `belay: ${detail}\n`,
    });
  });

  it('R65 a refusal of the role says which token was shown, and ends with code 6', async () => {
    const detail = 'The token v has the role viewer, which lacks the permission "stop".';
    routes['GET /api/executions/exe_01HZZZZZZZZZZZZZZZZZZZZZZZ'] = [403, { code: 'FORBIDDEN', detail }];
    const refused = await belay(['get', 'exe_01HZZZZZZZZZZZZZZZZZZZZZZZ']);
    expect(refused.code).toBe(EXIT.refused);
    expect(refused.err).toContain(`belay: ${detail}\n`);
    expect(refused.err).toContain('the token came from BELAY_TOKEN');
  });
});
