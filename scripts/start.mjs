// `npm start`: sets the checkout up when needed, then becomes `belay up` in this process, so that Ctrl-C and SIGTERM reach it
// directly. Arguments are passed on: `npm start -- --workers 4`.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, SetupError, setup } from './lib/setup.mjs';

try {
  await setup();
  const main = join(ROOT, 'dist', 'programs', 'belay.js');
  process.argv = [process.execPath, main, 'up', '--first-run', ...process.argv.slice(2)];
  await import(pathToFileURL(main).href);
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`);
  process.exitCode = 1;
}
