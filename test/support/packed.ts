import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const ROOT = resolve(__dirname, '../..');

/** The output of `npm pack` about its tarball. */
export interface Packed {
  readonly tarball: string;
  /** Bytes of the tarball. */
  readonly size: number;
  readonly paths: readonly string[];
}

/** Packs the checkout as `npm publish` would, into `directory`, for a user with an empty home. */
export function pack(directory: string): Packed {
  const args = ['pack', ROOT, '--json', '--ignore-scripts', '--pack-destination', directory];
  const said = JSON.parse(
    execFileSync('npm', args, { cwd: directory, env: bareEnvironment(directory), encoding: 'utf8' }),
  ) as { filename: string; size: number; files: { path: string }[] }[];
  const [made] = said;
  if (made === undefined) throw new Error('npm pack made nothing');
  return {
    tarball: join(directory, made.filename),
    size: made.size,
    paths: made.files.map(({ path }) => path),
  };
}

/**
 * Installs a tarball in `directory` without a registry: unpacks the package, and links the packages of its manifest, and
 * `more`, to the checkout's. A package that the manifest does not name is not found.
 */
export function install({ tarball }: Packed, directory: string, more: readonly string[] = []): string {
  const modules = join(directory, 'node_modules');
  const home = join(modules, 'belayd');
  mkdirSync(home, { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '-C', home, '--strip-components=1']);
  const { dependencies, peerDependencies, optionalDependencies } = JSON.parse(
    readFileSync(join(home, 'package.json'), 'utf8'),
  ) as Record<string, Record<string, string>>;
  for (const name of [
    ...Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies }),
    ...more,
  ]) {
    const link = join(modules, name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules', name), link);
  }
  return home;
}

/**
 * The path to programs, and the mark with which `npm test` finds processes that were left running; nothing else of the
 * caller's.
 */
export function bareEnvironment(home: string): NodeJS.ProcessEnv {
  const { PATH, BELAY_TEST_RUN } = process.env;
  const npm = { npm_config_offline: 'true', npm_config_update_notifier: 'false' };
  return { PATH, HOME: home, ...npm, ...(BELAY_TEST_RUN === undefined ? {} : { BELAY_TEST_RUN }) };
}
