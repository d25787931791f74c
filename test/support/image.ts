import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

const ROOT = resolve(__dirname, '../..');

/** One instruction of a Dockerfile, with its continuation lines. */
export interface Instruction {
  readonly name: string;
  readonly rest: string;
}

/** A stage of the image as a directory tree, made without Docker. */
export interface Stage {
  /** The directory that is `/` in the container. */
  readonly root: string;
  /** Its WORKDIR. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** The last of each of these instructions: USER, HEALTHCHECK, STOPSIGNAL, ENTRYPOINT, CMD. */
  readonly says: Readonly<Record<string, string>>;
}

export function readDockerfile(text: string): Instruction[] {
  return text
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, name = '', rest = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
      return { name, rest };
    });
}

/**
 * Carries out the Dockerfile in empty directories below `directory`, and returns the last stage. A file that the build context
 * lacks cannot be copied. Two parts are replaced: the base image's system and its packages are this machine's, and `npm ci`
 * links the packages of the lock file from the checkout's node_modules.
 */
export function replay(instructions: readonly Instruction[], directory: string): Stage {
  const stages = new Map<string, Stage>();
  let stage: Stage | undefined;
  for (const { name, rest } of instructions) {
    if (name === 'FROM') {
      const as = / AS (\w+)$/.exec(rest)?.[1] ?? 'last';
      stage = { root: join(directory, as), cwd: '/', env: {}, says: {} };
      mkdirSync(stage.root);
      stages.set(as, stage);
      continue;
    }
    if (stage === undefined) throw new Error(`${name} stands before any FROM`);
    stage = perform(stage, name, rest, stages);
    stages.set([...stages.keys()].at(-1) ?? '', stage);
  }
  if (stage === undefined) throw new Error('The Dockerfile has no stage');
  return stage;
}

function perform(stage: Stage, name: string, rest: string, stages: ReadonlyMap<string, Stage>): Stage {
  switch (name) {
    case 'WORKDIR':
      mkdirSync(join(stage.root, rest), { recursive: true });
      return { ...stage, cwd: rest };
    case 'ENV':
      return {
        ...stage,
        env: { ...stage.env, ...Object.fromEntries(rest.split(/\s+/).map((pair) => pair.split('=', 2))) },
      };
    case 'COPY':
      copy(stage, rest, stages);
      return stage;
    case 'RUN':
      run(stage, rest);
      return stage;
    case 'USER':
    case 'HEALTHCHECK':
    case 'STOPSIGNAL':
    case 'ENTRYPOINT':
    case 'CMD':
      return { ...stage, says: { ...stage.says, [name]: rest } };
    default:
      throw new Error(`This test does not know ${name}`);
  }
}

function copy(stage: Stage, rest: string, stages: ReadonlyMap<string, Stage>): void {
  const [, from, list = ''] = /^(?:--from=(\w+) )?(.*)$/.exec(rest) ?? [];
  const words = list.split(/\s+/);
  const to = words.pop() ?? '';
  const target = join(stage.root, resolve(stage.cwd, to));
  for (const word of words) {
    const source = from === undefined ? join(ROOT, word) : join(stages.get(from)?.root ?? '', word);
    const skips = from === undefined ? ignored() : () => false;
    if (skips(word)) throw new Error(`${word} is copied, and .dockerignore leaves it out`);
    cpSync(source, to.endsWith('/') || words.length > 1 ? join(target, basename(word)) : target, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => from !== undefined || !skips(path.slice(ROOT.length + 1)),
    });
  }
}

/**
 * Whether .dockerignore, in its present form, keeps a path out of the build: it allows only the paths that it names, without
 * some endings.
 */
function ignored(): (path: string) => boolean {
  const lines = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');
  const taken = lines.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
  const endings = lines.filter((line) => line.startsWith('**/*')).map((line) => line.slice('**/*'.length));
  if (!lines.includes('*')) throw new Error('.dockerignore must leave out everything first');
  return (path) =>
    endings.some((ending) => path.endsWith(ending)) ||
    !taken.some((name) => path === name || path.startsWith(`${name}/`));
}

function run(stage: Stage, command: string): void {
  const cwd = join(stage.root, stage.cwd);
  if (/^apt-get update && apt-get install --yes --no-install-recommends [a-z ]+ && rm -rf \S+$/.test(command))
    return;
  if (command.startsWith('npm ci ')) return linkModules(cwd, command.includes('--omit=dev'));
  // The base image's user does not exist here.
  const ours = command.replaceAll(/ --(owner|group)=node/g, '');
  execFileSync('sh', ['-c', ours], {
    cwd,
    env: { PATH: process.env['PATH'], HOME: stage.root, ...stage.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Installs like `npm ci`: every package of the lock file, optionally without those for development. */
function linkModules(cwd: string, omitDev: boolean): void {
  const lock = JSON.parse(readFileSync(join(cwd, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const modules = join(ROOT, 'node_modules');
  mkdirSync(join(cwd, 'node_modules'));
  cpSync(join(modules, '.package-lock.json'), join(cwd, 'node_modules/.package-lock.json'));
  for (const [path, { dev = false }] of Object.entries(lock.packages)) {
    const isTop = /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path);
    if (!isTop || (omitDev && dev) || !existsSync(join(ROOT, path))) continue;
    mkdirSync(dirname(join(cwd, path)), { recursive: true });
    symlinkSync(join(ROOT, path), join(cwd, path));
  }
}
