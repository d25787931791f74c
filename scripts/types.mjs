// `npm run types`: checks the types of every source, tests too. Installs missing packages of the lock file.
import { spawnSync } from 'node:child_process';
import { COMPILER, ROOT, SetupError, setupDependencies } from './lib/setup.mjs';

try {
  await setupDependencies();
  const args = [COMPILER, '-p', 'tsconfig.json', '--noEmit'];
  process.exitCode = spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit' }).status ?? 1;
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`);
  process.exitCode = 1;
}
