import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const DOWNLOAD_MS = 30_000;
const LIBRARY = 'libfaketimeMT.so.1';
let found: Promise<string | { readonly missing: string }> | undefined;

/**
 * The library that steps a process's wall clock and leaves its monotonic clock alone: the system's, or one from the
 * distribution's package, unpacked beside the test server. Looked for once.
 */
export function findFaketime(): Promise<string | { readonly missing: string }> {
  return (found ??= find());
}

async function find(): Promise<string | { readonly missing: string }> {
  const kept = join(checkout(), '.belay', 'faketime');
  const have = inside('/usr/lib') ?? inside(join(kept, 'usr', 'lib'));
  if (have !== undefined) return have;
  let why = `the package libfaketime holds no ${LIBRARY}`;
  mkdirSync(dirname(kept), { recursive: true });
  const work = mkdtempSync(`${kept}-`);
  try {
    const options = { cwd: work, timeout: DOWNLOAD_MS };
    await run('apt-get', ['download', '-q', '-o', 'Acquire::Retries=1', 'libfaketime'], options);
    const [deb = ''] = readdirSync(work).filter((name) => name.endsWith('.deb'));
    await run('dpkg-deb', ['-x', deb, join(work, 'root')], options);
    renameSync(join(work, 'root'), kept);
  } catch (error) {
    // Another run may have been faster.
    const words = error instanceof Error ? error.message : String(error);
    why = `libfaketime could not be had from the distribution's packages: ${words.trim().split('\n').at(-1)}`;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return inside(join(kept, 'usr', 'lib')) ?? { missing: why };
}

/** In the folder of the machine's architecture, such as x86_64-linux-gnu. */
function inside(lib: string): string | undefined {
  if (!existsSync(lib)) return undefined;
  return readdirSync(lib)
    .map((name) => join(lib, name, 'faketime', LIBRARY))
    .find((path) => existsSync(path));
}

function checkout(): string {
  let folder = __dirname;
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}

/** The wall clock of the processes that are started with its environment. */
export class SteppedClock {
  readonly #file: string;

  constructor(
    private readonly library: string,
    folder: string,
  ) {
    this.#file = join(folder, 'clock');
    this.step(0);
  }

  get env(): Record<string, string> {
    return {
      LD_PRELOAD: this.library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }

  /** From now on the clock differs by that from the machine's. Written whole: half a number is another time. */
  step(seconds: number): void {
    writeFileSync(`${this.#file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}

/** Removes the files that the library shares between the processes of a killed one. */
export function forgetFaketime(pids: readonly (number | undefined)[]): void {
  for (const pid of pids)
    for (const name of [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`])
      rmSync(join('/dev/shm', name), { force: true });
}
