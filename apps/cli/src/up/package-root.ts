import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The directory of Belay's own package.json. Programs and examples are found from it, built or not. */
export function packageRoot(): string {
  let directory = __dirname;
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    if (parent === directory) throw new Error("Belay's package.json is not above its own program.");
    directory = parent;
  }
  return directory;
}

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

/** The program of a service, as built. */
export function programPath(app: 'orchestrator' | 'worker'): string {
  return join(packageRoot(), 'dist', 'programs', `${app}.js`);
}
