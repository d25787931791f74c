import { execFile, spawnSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { openPipe, type Libc } from '../native';
import { InputFile, openInput } from './input-file';

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
/** The first mkfifo(1) makes this many pipes, and a worker's start waits for it. An agent uses three. */
const FIRST_BATCH = 24;
/** Every later one makes this many. */
const BATCH = 96;
const MAKE_WAIT_MS = 5_000;

/** A pipe from a child to this process: our end as a stream, the child's as a descriptor that is closed after the start. */
export interface ChildPipe {
  readonly ours: Socket;
  readonly theirs: number;
}

/** A pipe from this process to a child: our end as a stream, the child's as a descriptor that is closed after the start. */
export interface ChildInput {
  readonly ours: Socket;
  readonly theirs: number;
}

/**
 * Real pipes for agents. Node's own pipes are sockets, and a socket cannot be opened by name: `echo oops > /dev/stderr` fails
 * with ENXIO. Node cannot make pipes; libc can. Without libc, named ones are made in advance, in batches, opened, and unlinked
 * at once: each costs up to 0.7 ms of the kernel's time. Without mkfifo(1) callers use sockets.
 */
export class PipePool {
  readonly #free: string[] = [];
  #made = 0;
  #usable = true;
  #refilling: Promise<void> | undefined;

  /** @param folder made if absent; emptied and removed by `close`. */
  constructor(
    private readonly folder: string,
    private readonly libc: Libc | undefined,
  ) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      if (libc === undefined) this.#refillNow(FIRST_BATCH);
    } catch {
      this.#usable = false;
    }
  }

  /** A pipe that the child writes and this process reads; undefined when none can be made. */
  fromChild(): ChildPipe | undefined {
    if (this.libc !== undefined) {
      const { reading, writing } = openPipe(this.libc);
      return { ours: new Socket({ fd: reading, readable: true, writable: false }), theirs: writing };
    }
    return this.#open((path, opened) => {
      const ours = opened(openSync(path, O_RDONLY | O_NONBLOCK));
      // Opened by its descriptor: an agent may have put another pipe, which nobody reads, in the place of its name.
      const theirs = opened(openSync(`/proc/self/fd/${ours}`, O_WRONLY));
      return { ours: new Socket({ fd: ours, readable: true, writable: false }), theirs };
    });
  }

  /**
   * A pipe that this process writes and the child reads, until this process closes it or dies; undefined when none can be made.
   */
  toChild(): ChildInput | undefined {
    if (this.libc !== undefined) {
      const { reading, writing } = openPipe(this.libc);
      return { ours: new Socket({ fd: writing, readable: false, writable: true }), theirs: reading };
    }
    return this.#open((path, opened) => {
      // This open waits for nobody. The child's end is opened by the descriptor, and blocks.
      const first = openSync(path, O_RDONLY | O_NONBLOCK);
      try {
        const ours = opened(openSync(`/proc/self/fd/${first}`, O_WRONLY | O_NONBLOCK));
        const theirs = opened(openSync(`/proc/self/fd/${ours}`, O_RDONLY));
        return { ours: new Socket({ fd: ours, readable: false, writable: true }), theirs };
      } finally {
        closeSync(first);
      }
    });
  }

  /** The child's stdin; undefined when it must be a socket after all. */
  input(given: string | InputFile): number | undefined {
    if (typeof given !== 'string') return given.take();
    return this.#usable ? openInput(this.folder, given) : undefined;
  }

  newInput(): Promise<InputFile> {
    return InputFile.create(this.folder);
  }

  /** Removes the folder, after any mkfifo(1) that still makes pipes in it. */
  async close(): Promise<void> {
    this.#usable = false;
    await this.#refilling;
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** @throws the system's error when no descriptor is left; then everything opened so far is closed. */
  #open<T>(make: (path: string, opened: (fd: number) => number) => T): T | undefined {
    if (!this.#usable) return undefined;
    if (this.#free.length === 0) this.#refillNow(FIRST_BATCH);
    const path = this.#free.pop();
    if (path === undefined) return undefined;
    this.#refillLater();
    const fds: number[] = [];
    try {
      return make(path, (fd) => {
        fds.push(fd);
        return fd;
      });
    } catch (error) {
      for (const fd of fds) closeSync(fd);
      if (isExhausted(error)) throw error;
      this.#usable = false; // the folder is gone or has no pipes: sockets from now on
      return undefined;
    } finally {
      rmSync(path, { force: true });
    }
  }

  #names(count: number): string[] {
    return Array.from({ length: count }, () => join(this.folder, String((this.#made += 1))));
  }

  #refillNow(count: number): void {
    const names = this.#names(count);
    const made = spawnSync('mkfifo', ['-m', '600', ...names], { stdio: 'ignore', timeout: MAKE_WAIT_MS });
    if (made.status === 0) this.#free.push(...names);
    else this.#usable = false;
  }

  /** Refills in advance, so that a start does not wait for mkfifo(1) while agents come and go. */
  #refillLater(): void {
    if (this.#refilling !== undefined || this.#free.length > FIRST_BATCH) return;
    const names = this.#names(BATCH);
    this.#refilling = new Promise((resolve) => {
      const child = execFile('mkfifo', ['-m', '600', ...names], { timeout: MAKE_WAIT_MS }, (error) => {
        this.#refilling = undefined;
        if (error === null && this.#usable) this.#free.push(...names);
        resolve();
      });
      child.unref();
    });
  }
}

function isExhausted(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE' || code === 'ENOMEM';
}
