import { execFile } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SOURCE = ['../fixtures/faults/server-clock.c', '../../../test/fixtures/faults/server-clock.c']
  .map((path) => resolve(__dirname, path))
  .find((path) => existsSync(path)) as string;
const COMPILE_MS = 30_000;

/**
 * The wall clock of a server that is started with its environment. libfaketime does not work here: it and the server's
 * allocator wait for each other at the start.
 */
export class ServerClock {
  private constructor(private readonly folder: string) {}

  /** Makes it; without a compiler, the reason why not. */
  static async make(): Promise<ServerClock | { readonly missing: string }> {
    const folder = mkdtempSync(join(tmpdir(), 'belay-clock-'));
    try {
      const library = join(folder, 'server-clock.so');
      await run('cc', ['-shared', '-fPIC', '-O2', '-o', library, SOURCE], { timeout: COMPILE_MS });
      writeFileSync(join(folder, 'ahead'), Buffer.alloc(8));
      return new ServerClock(folder);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      const words = error instanceof Error ? error.message : String(error);
      return { missing: `cc could not make the server's clock: ${words.trim().split('\n').at(-1)}` };
    }
  }

  get env(): Record<string, string> {
    return {
      LD_PRELOAD: join(this.folder, 'server-clock.so'),
      SERVER_CLOCK: join(this.folder, 'ahead'),
    };
  }

  /** From now on the clock differs by that from the machine's. Written in place, since the server has mapped the file. */
  step(seconds: number): void {
    const ahead = Buffer.alloc(8);
    ahead.writeBigInt64LE(BigInt(seconds));
    const file = openSync(join(this.folder, 'ahead'), 'r+');
    writeSync(file, ahead, 0, ahead.length, 0);
    closeSync(file);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
