import { mkdirSync, readdirSync, rmdirSync, statSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readKernelFile } from './read-kernel-file';

/** One cgroup v2 directory: the few files Belay reads and writes, each a system call of microseconds. */
export class Cgroup {
  constructor(readonly path: string) {}

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
    return new Cgroup(join(this.path, name));
  }

  /** Pids of this cgroup and, unlike `cgroup.procs`, of those below it. Zombies are not listed by the kernel. */
  pids(): number[] {
    const text = readKernelFile(join(this.path, 'cgroup.procs')) ?? '';
    const own = text.split('\n').flatMap((line) => Number(line) || []);
    return this.children().reduce((all, child) => all.concat(child.pids()), own);
  }

  children(): Cgroup[] {
    try {
      // Two links are its own: it has none below it, as nearly always, and one call says so.
      if (statSync(this.path).nlink === 2) return [];
      return readdirSync(this.path, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => this.child(entry.name));
    } catch (error) {
      if (isGone(error)) return [];
      throw error;
    }
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

  /** SIGKILL to every process of it and below it, against forks too: one step of the kernel's. */
  kill(): void {
    this.#write('cgroup.kill', '1');
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
   * Removes it and what is below it. @returns false when a process is still inside (EBUSY).
   */
  remove(): boolean {
    try {
      rmdirSync(this.path);
      return true;
    } catch (error) {
      if (isGone(error)) return true;
      const below = this.children();
      if (below.length === 0) return false;
    }
    if (!this.children().every((child) => child.remove())) return false;
    try {
      rmdirSync(this.path);
      return true;
    } catch (error) {
      return isGone(error);
    }
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

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENODEV';
}
