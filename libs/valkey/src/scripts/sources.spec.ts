import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findLuaFolder, readScriptSources } from './sources';

describe('the scripts in libs/valkey/lua', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'belay-lua-'));
    cpSync(join(__dirname, '../../lua'), folder, { recursive: true });
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    ['source', 'libs/valkey/src/scripts'],
    ['compiled module', 'dist/libs/valkey/src/scripts'],
    ['bundled programs', 'dist/programs'],
  ])('are found from the %s, in %s', (_which, from) => {
    const root = resolve(__dirname, '../../../..');
    expect(findLuaFolder(join(root, from))).toBe(join(root, 'libs/valkey/lua'));
  });

  it('are missed by name where no folder above has them', () => {
    expect(() => findLuaFolder(folder)).toThrow(`No folder above ${folder} has libs/valkey/lua.`);
  });

  it('have their includes in place, each once', () => {
    for (const source of Object.values(readScriptSources(folder))) {
      expect(source).not.toContain('--!include');
      expect(source.split('local NOW =').length).toBeLessThanOrEqual(2);
    }
  });

  it('are refused when the folder and the list differ', () => {
    writeFileSync(join(folder, 'unlisted.lua'), 'return 1\n');
    rmSync(join(folder, 'heartbeat.lua'));
    expect(() => readScriptSources(folder)).toThrow('not listed: unlisted; no file: heartbeat.');
  });

  it('are refused when one includes a file twice', () => {
    writeFileSync(join(folder, 'heartbeat.lua'), '--!include base\n--!include base\n');
    expect(() => readScriptSources(folder)).toThrow('heartbeat.lua includes base twice');
  });
});
