import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  statSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Libc } from '../native';
import { readKernelFile } from './read-kernel-file';
import { signalListed } from './signal-process';

/** An agent may nest any number of cgroups below its own: no walk goes deeper than this. */
const MAX_WALK_DEPTH = 64;
const MAX_WALK_CGROUPS = 4_096;

/** One cgroup v2 directory: the few files that Belay reads and writes, each a system call of microseconds. */
export class Cgroup {
  /** @param shownAs the path that /proc/PID/cgroup gives for a process in it, if known. */
  constructor(
    readonly path: string,
    readonly shownAs?: string,
  ) {}

  /** Makes the directory. @returns false when it existed already. */
  create(): boolean {
    try {
      mkdirSync(this.path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    }
  }

  child(name: string): Cgroup {
    return new Cgroup(
      join(this.path, name),
      this.shownAs === undefined ? undefined : join(this.shownAs, name),
    );
  }

  /** Whether a path of /proc/PID/cgroup is this cgroup or one below it. */
  holdsPath(path: string): boolean {
    return this.shownAs !== undefined && (path === this.shownAs || path.startsWith(`${this.shownAs}/`));
  }

  /**
   * The pids of this cgroup and, unlike `cgroup.procs`, of those below it. The kernel lists no zombies. An agent may have made
   * the cgroups below: one that cannot be read, or that is beyond the bounds of a walk, is left out. `populated` and `kill`
   * reach all of them.
   */
  pids(): number[] {
    const found = new Set<number>();
    walk(this.path, (at) => {
      for (const pid of processesOf(at)) found.add(pid);
    });
    return [...found];
  }

  /** Whether a live process is in the cgroup or below it. A cgroup that is gone was empty, so it is not populated. */
  populated(): boolean {
    return this.#event('populated') ?? false;
  }

  frozen(): boolean {
    return this.#event('frozen') ?? false;
  }

  #event(name: 'populated' | 'frozen'): boolean | undefined {
    const events = readKernelFile(join(this.path, 'cgroup.events'));
    return events === undefined ? undefined : events.includes(`${name} 1`);
  }

  /**
   * Sends SIGKILL to every process in the cgroup and below it. The kernel does so in one step, so no fork escapes. A cgroup
   * that was made threaded has no such step: there each process is signalled.
   */
  kill(libc: Libc | undefined): void {
    try {
      this.#write('cgroup.kill', '1');
    } catch (error) {
      if (!isThreaded(error)) throw error;
      signalListed(
        () => this.pids(),
        ['SIGKILL'],
        libc,
        () => {},
      );
    }
  }

  freeze(frozen: boolean): void {
    this.#write('cgroup.freeze', frozen ? '1' : '0');
  }

  #write(file: string, text: string): void {
    try {
      writeFileSync(join(this.path, file), text);
    } catch (error) {
      // The cgroup is gone, so nothing is left to kill, freeze or thaw.
      if (!isGone(error)) throw error;
    }
  }

  /**
   * Removes the cgroup and all below it.
   * @returns false when a process is still inside (EBUSY), or the cgroups below exceed the bounds of a walk.
   */
  remove(): boolean {
    if (removed(this.path)) return true;
    // A walk leaves the deepest first, and a cgroup can only be removed when none is below it.
    walk(this.path, () => {}, removed);
    return removed(this.path);
  }

  /**
   * Calls `onChange` when `cgroup.events` changes (inotify). Only a hint: callers poll as well.
   * @returns a function that ends the watch.
   */
  onEvents(onChange: () => void): () => void {
    try {
      const watcher = watch(join(this.path, 'cgroup.events'), { persistent: false }, onChange);
      watcher.on('error', () => watcher.close());
      return () => watcher.close();
    } catch {
      return () => {}; // out of watches: the poll suffices
    }
  }
}

/**
 * Calls `enter` for the cgroup at `path`, then for those below it, and `leave` once all below one was visited. A descriptor
 * keeps each cgroup open while the walk is below it: the names may add up to a path that is longer than the kernel accepts.
 * @throws the system's error for `path` itself, and when no descriptor is left.
 */
function walk(
  path: string,
  enter: (at: string) => void,
  leave: (at: string) => unknown = () => {},
  depth = 0,
  seen = { cgroups: 0 },
): void {
  enter(path);
  if (depth === MAX_WALK_DEPTH) return;
  for (const name of namesBelow(path)) {
    seen.cgroups += 1;
    if (seen.cgroups > MAX_WALK_CGROUPS) return;
    const child = `${path}/${name}`;
    try {
      const fd = openSync(child, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      try {
        walk(`/proc/self/fd/${fd}`, enter, leave, depth + 1, seen);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      if (isOutOfDescriptors(error)) throw error; // otherwise it is gone, or was made unreadable
    }
    leave(child);
  }
}

function namesBelow(path: string): string[] {
  try {
    // With two links it has no cgroup below it. That is the usual case, and one call tells it.
    if (statSync(path).nlink === 2) return [];
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** In a threaded cgroup the kernel lists threads only. */
function processesOf(path: string): number[] {
  try {
    return numbersIn(readKernelFile(`${path}/cgroup.procs`));
  } catch (error) {
    if (!isThreaded(error)) throw error;
    return numbersIn(readKernelFile(`${path}/cgroup.threads`)).flatMap((thread) => processOf(thread) ?? []);
  }
}

function processOf(thread: number): number | undefined {
  const status = readKernelFile(`/proc/${thread}/status`);
  return Number(/^Tgid:\s*(\d+)$/m.exec(status ?? '')?.[1]) || undefined;
}

function numbersIn(text = ''): number[] {
  return text.split('\n').flatMap((line) => Number(line) || []);
}

function removed(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    return isGone(error);
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENODEV';
}

/** A threaded cgroup refuses a request for processes as unsupported; Node may use either name. */
function isThreaded(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOTSUP' || code === 'EOPNOTSUPP';
}

function isOutOfDescriptors(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE';
}
