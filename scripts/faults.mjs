// `npm run faults -- [--seeds N] [--from S] [--minutes M] [--short] [--json]`: sets the checkout up when needed, then breaks fleets.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, SetupError, setup } from './lib/setup.mjs';

const { write } = process.stdout;
try {
  // Results only on stdout, so that a program can read them.
  process.stdout.write = process.stderr.write.bind(process.stderr);
  await setup();
  process.stdout.write = write;
  await import(pathToFileURL(join(ROOT, 'dist', 'test', 'faults', 'main.js')).href);
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`);
  process.exitCode = 1;
}
