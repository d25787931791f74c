// `npm run build`: installs what the lock file names where that is missing, compiles, and bundles the programs.
import { SetupError, setup } from './lib/setup.mjs';

try {
  await setup();
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`);
  process.exitCode = 1;
}
