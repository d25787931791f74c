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

/** An agent makes as many cgroups below its own as it likes: no walk goes further than this. */
const MAX_WALK_DEPTH = 64;
const MAX_WALK_CGROUPS = 4_096;

/** One cgroup v2 directory: the few files Belay reads and writes, each a system call of microseconds. */
export class Cgroup {
  /** @param shownAs the path that /proc/PID/cgroup gives for a process in it, where that is known. */
  constructor(
    readonly path: string,
    readonly shownAs?: string,
  ) {}

  /** Makes the directory. @returns false when it was there already. */
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
   * Pids of this cgroup and, unlike `cgroup.procs`, of those below it. Zombies are not listed by the kernel. An agent may
   * have made what is below: what cannot be read there, or is beyond the bounds of a walk, is left out. `populated` and
   * `kill` reach all of it.
   */
  pids(): number[] {
    const found = new Set<number>();
    walk(this.path, (at) => {
      for (const pid of processesOf(at)) found.add(pid);
    });
    return [...found];
  }

  /** Whether a live process is in it or below it. A cgroup that is gone is not populated: it had to be empty to go. */
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
   * SIGKILL to every process of it and below it, against forks too: one step of the kernel's. A cgroup that was made
   * threaded has no such step: there each process is signalled.
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
      // Gone already: nothing left to kill, freeze or thaw.
      if (!isGone(error)) throw error;
    }
  }

  /**
   * Removes it and what is below it.
   * @returns false when a process is still inside (EBUSY), or what is below exceeds the bounds of a walk.
   */
  remove(): boolean {
    if (removed(this.path)) return true;
    // The deepest come last in a walk, and a cgroup can only go when none is below it.
    walk(this.path, () => {}, removed);
    return removed(this.path);
  }

  /**
   * Calls `onChange` when `cgroup.events` changes (inotify). A hint only: callers poll as well.
   * @returns what ends the watch.
   */
  onEvents(onChange: () => void): () => void {
    try {
      const watcher = watch(join(this.path, 'cgroup.events'), { persistent: false }, onChange);
      watcher.on('error', () => watcher.close());
      return () => watcher.close();
    } catch {
      return () => {}; // out of watches: the poll is enough
    }
  }
}

/**
 * Calls `enter` for the cgroup at `path`, then for those below it, and `leave` when all below one was seen. Each is held by a
 * descriptor while the walk is below it: names may add up to a path that is longer than the kernel takes.
 * @throws the system's error for `path` itself, and when it is out of descriptors.
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
      if (isOutOfDescriptors(error)) throw error; // else it is gone, or was made unreadable
    }
    leave(child);
  }
}

function namesBelow(path: string): string[] {
  try {
    // Two links are its own: it has none below it, as nearly always, and one call says so.
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

/** Asked of processes, a threaded cgroup answers that this is not supported; Node may give either name. */
function isThreaded(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOTSUP' || code === 'EOPNOTSUPP';
}

function isOutOfDescriptors(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE';
}
