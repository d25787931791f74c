// Sets the checkout up when needed, then runs one of its compiled programs.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, SetupError, setup } from './setup.mjs';

/** `folder`: a folder below dist/, whose main is run with this process's own arguments. */
export async function runBuilt(folder) {
  const { write } = process.stdout;
  try {
    // Only results go to stdout, so that a program can read them.
    process.stdout.write = process.stderr.write.bind(process.stderr);
    await setup();
    process.stdout.write = write;
    await import(pathToFileURL(join(ROOT, 'dist', folder, 'main.js')).href);
  } catch (error) {
    process.stderr.write(
      `${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`,
    );
    process.exitCode = 1;
  }
}
