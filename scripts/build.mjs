// `npm run build`: installs missing packages of the lock file, compiles, and bundles the programs.
import { SetupError, setup } from './lib/setup.mjs';

try {
  await setup();
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`);
  process.exitCode = 1;
}
