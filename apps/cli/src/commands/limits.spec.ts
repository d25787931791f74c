import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '../exit-codes';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const ITEMS = [
  { by: 'fleet', running: 200 },
  { by: 'label.account', perMinute: 20 },
];
const LIMITS = { version: 3, items: ITEMS, held: 1, waiting: 7 };

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
let folder: string;
useScriptedServer((server) => ({ asked, routes, belay } = server));
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'belay-limits-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (text: string): string => {
  const path = join(folder, 'limits.json');
  writeFileSync(path, text);
  return path;
};

describe('R35 belay limits', () => {
  it('shows them, with the attempts that count and those that wait', async () => {
    routes['GET /api/limits'] = [200, LIMITS];
    expect(await belay(['limits', 'show'])).toMatchObject({
      code: 0,
      out:
        'BY             RUNNING  PER MINUTE\n' +
        'fleet          200      -\n' +
        'label.account  -        20\n',
      err: '1 attempt under a limit, 7 waiting for one\n',
    });
    expect(JSON.parse((await belay(['limits', 'show', '--json'])).out)).toEqual(LIMITS);
  });

  it('sets all of them from a file, and lifts them', async () => {
    routes['PUT /api/limits'] = [200, LIMITS];
    for (const text of [JSON.stringify(ITEMS), JSON.stringify({ limits: ITEMS })]) {
      expect(await belay(['limits', 'set', file(text), '--note', 'plan'])).toMatchObject({ code: 0 });
      expect(asked.at(-1)).toBe(`PUT /api/limits ${JSON.stringify({ limits: ITEMS, note: 'plan' })}`);
    }
    routes['PUT /api/limits'] = [200, { ...LIMITS, items: [] }];
    expect((await belay(['limits', 'clear'])).err).toBe('No limits are set.\n');
    expect(asked.at(-1)).toBe('PUT /api/limits {"limits":[]}');
  });

  it('lifts nothing by mistake: a file that cannot be read, or has no limits, is an error', async () => {
    const { length } = asked;
    const none = join(folder, 'none.json');
    expect(await belay(['limits', 'set', none])).toMatchObject({
      code: EXIT.usage,
      err: `belay: ${none} cannot be read: there is no such file.\n`,
    });
    expect(await belay(['limits', 'set', folder])).toMatchObject({
      code: EXIT.usage,
      err: `belay: ${folder} cannot be read: it is a directory.\n`,
    });
    const broken = await belay(['limits', 'set', file('[')]);
    expect(broken).toMatchObject({ code: EXIT.usage });
    expect(broken.err).toContain('limits.json cannot be read as JSON: ');
    expect(await belay(['limits', 'set', file('{"limit":[]}')])).toMatchObject({ code: EXIT.usage });
    expect(asked).toHaveLength(length);
  });
});
