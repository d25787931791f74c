import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { distributionSources, formatSources, withBackports } from './debian-sources';
import { withLock } from './locked';
import { runCommand, type CommandResult } from './run-command';
import type { Report, ServerBinary } from './types';
import { describeUnpacked, findUnpacked, unpackedRoot } from './unpacked-server';
import { errorMessage } from './error-message';

export { findUnpacked } from './unpacked-server';

const UPDATE_TIMEOUT_MS = 120_000;
const DOWNLOAD_TIMEOUT_MS = 180_000;
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const WORK = 'unpacking-';
/** The C library and what belongs to it must be the system's own: another one beside the system's loader crashes. */
const NEVER_UNPACKED = /^(libc6|libc-bin|libgcc-s1|libstdc\+\+6|base-files)_/;

/**
 * Downloads the server from the distribution's packages and unpacks it into `cacheDir`. It needs no root and leaves the system
 * as it is: apt works with its own lists, cache and sources. Undefined, with a line in `tried`, when it fails.
 */
export async function unpackDebianServer(
  options: { readonly cacheDir: string; readonly report: Report },
  tried: string[],
): Promise<ServerBinary | undefined> {
  const release = readRelease();
  if (release === undefined) {
    tried.push(otherPlatform());
    return undefined;
  }
  try {
    const got = await makeUnpacked(resolve(options.cacheDir), release, options.report);
    if (typeof got !== 'string') return got;
    const why = tooFull(resolve(options.cacheDir)) ?? got;
    tried.push(`packages of ${release.id} ${release.codename}: ${why}`);
  } catch (error) {
    const why = tooFull(resolve(options.cacheDir)) ?? errorMessage(error);
    tried.push(
      `packages of ${release.id} ${release.codename}: ${why}; set BELAY_DATA_DIR to a writable directory`,
    );
  }
  return undefined;
}

/** Room for the package lists, a server's package and its unpacked files. Bytes. */
const NEEDED_BYTES = 150 * 1024 * 1024;

/** A reason when the disk is full, since apt then claims that it knows no package. Undefined where there is room. */
function tooFull(cacheDir: string): string | undefined {
  try {
    const { bavail, bsize } = statfsSync(existsSync(cacheDir) ? cacheDir : dirname(cacheDir));
    const free = bavail * bsize;
    if (free >= NEEDED_BYTES) return undefined;
    const mib = (bytes: number): number => Math.floor(bytes / (1024 * 1024));
    return `no space: ${mib(free)} MiB are free on the disk of ${cacheDir}, and ${mib(NEEDED_BYTES)} MiB are needed; free some`;
  } catch {
    return undefined;
  }
}

function makeUnpacked(cacheDir: string, release: Release, report: Report): Promise<ServerBinary | string> {
  mkdirSync(cacheDir, { recursive: true, mode: 0o700 });
  const lock = {
    waitMs: UPDATE_TIMEOUT_MS + DOWNLOAD_TIMEOUT_MS,
    report,
    waitingFor: 'downloading the server',
  };
  return withLock(join(cacheDir, 'unpack.lock'), lock, async () => {
    // Another process may have unpacked the server while this one waited.
    const made = await findUnpacked(cacheDir, []);
    if (made !== undefined) return made;
    // This process has the lock, so these were left by a process that was killed.
    for (const name of readdirSync(cacheDir).filter((each) => each.startsWith(WORK))) {
      rmSync(join(cacheDir, name), { recursive: true, force: true });
    }
    const work = mkdtempSync(join(cacheDir, WORK));
    try {
      return await downloadAndUnpack(work, cacheDir, release, report);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

interface Release {
  readonly id: string;
  readonly codename: string;
}

async function downloadAndUnpack(
  work: string,
  cacheDir: string,
  release: Release,
  report: Report,
): Promise<ServerBinary | string> {
  const own = distributionSources(release.codename);
  if (own.length === 0) return `no source for ${release.codename} in /etc/apt/sources.list or sources.list.d`;
  const sources = release.id === 'debian' ? withBackports(own, release.codename) : own;
  const apt = prepareApt(work, formatSources(sources));

  report(`looking for a server in the packages of ${release.id} ${release.codename} …`);
  const updated = await apt('apt-get', ['update'], UPDATE_TIMEOUT_MS);
  const name = await pickPackage(apt);
  if (name === undefined) {
    const why = updated.code === 0 ? 'they contain neither valkey-server nor redis-server' : updated.failure;
    return `${why}; is the mirror reachable?`;
  }
  report(`downloading ${name.name} ${name.version} …`);
  const failure = await download(apt, name.name, work);
  if (failure !== undefined) return failure;

  const root = join(work, 'root');
  const debs = readdirSync(join(work, 'archives')).filter((file) => file.endsWith('.deb'));
  for (const deb of debs.filter((file) => !NEVER_UNPACKED.test(file))) {
    const unpacked = await runCommand('dpkg-deb', ['-x', join(work, 'archives', deb), root], {
      timeoutMs: 60_000,
      env: { ...process.env, PATH: SYSTEM_PATH },
    });
    if (unpacked.code !== 0) return `dpkg-deb could not unpack ${deb}: ${unpacked.failure}`;
  }
  const described = await describeUnpacked(root);
  if (typeof described === 'string') return `${name.name} was unpacked but does not run: ${described}`;

  const place = unpackedRoot(cacheDir);
  rmSync(place, { recursive: true, force: true }); // an unpacked copy that no longer runs; nobody uses it
  renameSync(root, place);
  const moved = await findUnpacked(cacheDir, []);
  return moved === undefined ? `${place} does not run` : { ...moved, source: 'packages' };
}

type Apt = (
  tool: 'apt-get' | 'apt-cache',
  args: readonly string[],
  timeoutMs: number,
) => Promise<CommandResult>;

/** apt with sources, lists and cache below `work`. It reads the system's state and never writes it. */
function prepareApt(work: string, sources: string): Apt {
  for (const name of ['lists/partial', 'archives/partial', 'parts'])
    mkdirSync(join(work, name), { recursive: true });
  writeFileSync(join(work, 'sources.list'), sources);
  const settings = {
    'Dir::Etc::sourcelist': join(work, 'sources.list'),
    'Dir::Etc::sourceparts': join(work, 'parts'),
    'Dir::State::lists': join(work, 'lists'),
    'Dir::Cache': work,
    'Dir::Cache::archives': join(work, 'archives'),
    // In memory only: no cache files to be left behind.
    'Dir::Cache::pkgcache': '',
    'Dir::Cache::srcpkgcache': '',
    // As root, apt would download as the user _apt, who cannot write here.
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '2',
    'Acquire::http::Timeout': '20',
    'Acquire::https::Timeout': '20',
    // The lock belongs to the system. Nothing of the system's changes, so it is not taken.
    'Debug::NoLocking': '1',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  return (tool, args, timeoutMs) =>
    runCommand(tool, [...flags, ...args], {
      timeoutMs,
      cwd: join(work, 'archives'),
      // A service's PATH may lack even /bin, which apt and dpkg need.
      env: { ...process.env, PATH: SYSTEM_PATH, DEBIAN_FRONTEND: 'noninteractive' },
    });
}

/** Valkey, if this release has a version that is new enough, else Redis. */
async function pickPackage(apt: Apt): Promise<{ name: string; version: string } | undefined> {
  for (const name of ['valkey-server', 'redis-server']) {
    const policy = await apt('apt-cache', ['policy', name], 30_000);
    const version = /^\s*Candidate: (?:\d+:)?(\d\S*)/m.exec(policy.stdout)?.[1];
    if (version !== undefined && Number(version.split('.')[0]) >= 7) return { name, version };
  }
  return undefined;
}

/**
 * The package and those of its dependencies that this system lacks, by apt's own solver. If the solver gives up (a system with
 * broken packages), only the server and its tools, which need few other packages.
 */
async function download(apt: Apt, name: string, work: string): Promise<string | undefined> {
  const solved = await apt(
    'apt-get',
    ['install', '--download-only', '--no-install-recommends', '--reinstall', '-y', '-q', name],
    DOWNLOAD_TIMEOUT_MS,
  );
  const has = (prefix: string): boolean =>
    readdirSync(join(work, 'archives')).some(
      (file) => file.startsWith(`${prefix}_`) && file.endsWith('.deb'),
    );
  const tools = name.replace('-server', '-tools');
  // The program is in the tools' package, which the solver leaves out where it is installed already.
  const missing = [name, tools].filter((wanted) => !has(wanted));
  if (missing.length === 0) return undefined;
  const plain = await apt('apt-get', ['download', '-q', ...missing], DOWNLOAD_TIMEOUT_MS);
  if (plain.code === 0 && has(tools)) return undefined;
  return `${name} could not be downloaded: ${plain.failure || solved.failure}`;
}

function readRelease(): Release | undefined {
  if (process.platform !== 'linux' || !existsSync('/usr/bin/apt-get')) return undefined;
  let text = '';
  try {
    text = readFileSync('/etc/os-release', 'utf8');
  } catch {
    return undefined;
  }
  const field = (name: string): string =>
    new RegExp(`^${name}="?([^"\\n]*)"?$`, 'm').exec(text)?.[1]?.toLowerCase() ?? '';
  const codename = field('VERSION_CODENAME');
  return codename === '' ? undefined : { id: field('ID'), codename };
}

function otherPlatform(): string {
  if (process.platform === 'darwin') return 'no packages to unpack on macOS; run: brew install valkey';
  return 'no apt-get here to unpack packages with; install valkey with your own package manager';
}
