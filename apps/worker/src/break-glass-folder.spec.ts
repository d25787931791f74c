import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startBreakGlassServer } from './break-glass-server';

let folder: string;
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'belay-glass-')), 'workers');
});
afterEach(() => rmSync(join(folder, '..'), { recursive: true, force: true }));

const start = async () =>
  startBreakGlassServer(join(folder, 'w.sock'), { kill: async () => ({ complete: true }) as never });

describe('R55 the directory of the break-glass socket', () => {
  it('is made for this user alone', async () => {
    const server = await start();
    expect(existsSync(join(folder, 'w.sock'))).toBe(true);
    await new Promise((resolve) => server.close(resolve));
  });

  async function expectRefused(problem: string): Promise<void> {
    await expect(start()).rejects.toMatchObject({
      code: 'INVALID_SETTINGS',
      message: `The socket for "belay kill --local" cannot be made in ${folder}: ${problem}. Make it a directory that only this user can write to (chown, chmod 700), or set BELAY_DATA_DIR to another directory with a short path.`,
    });
    expect(existsSync(join(folder, 'w.sock'))).toBe(false);
  }

  it.each([0o777, 0o770, 0o702])('is refused where others may write to it: mode %o', async (mode) => {
    mkdirSync(folder);
    chmodSync(folder, mode);
    await expectRefused(`other users may write to it (mode ${mode.toString(8)})`);
  });

  it('is refused where it is a link to another one', async () => {
    symlinkSync(mkdtempSync(`${folder}-`), folder);
    await expectRefused('it is not a directory');
  });

  const asRoot = process.getuid?.() === 0 ? it : it.skip;
  asRoot('is refused where it belongs to another user', async () => {
    mkdirSync(folder, { mode: 0o700 });
    chownSync(folder, 65_534, 65_534);
    await expectRefused('it belongs to the user with the id 65534');
  });
});
