import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

/**
 * The truth about a tree, without asking Belay: its processes write their own line of /proc/PID/stat into a file of the round's
 * (test/fixtures/trees/note.sh), and this looks for those in /proc. It is written apart from the product's code, so that a
 * fault there does not hide itself.
 */
export interface Entry {
  readonly pid: number;
  readonly command: string;
  readonly state: string;
  readonly parent: number;
  readonly session: number;
  readonly threads: number;
  /** With the pid it names one process of this boot. */
  readonly startTime: string;
}

/** Every process that has noted itself in `notes`, once, as it was then. */
export function noted(notes: string): Entry[] {
  const entries = readFileSync(notes, 'latin1').split('\n').flatMap(parse);
  return [...new Map(entries.map((entry) => [identity(entry), entry])).values()];
}

/** The first process of the tree that notes itself: in a PID namespace the agent's first process is the parent of that one. */
export function firstOf(leader: number, alive: readonly Entry[], isOutside: boolean): number {
  return isOutside ? (alive.find(({ parent }) => parent === leader)?.pid ?? leader) : leader;
}

/**
 * The living processes of one tree: those that noted themselves, by pid and start time, and those with the name of the notes in
 * their arguments (forked, and without a note yet).
 * @param namespace the PID namespace in which they noted themselves, where it is not this process's own.
 * @param file the present path of the notes, when they were moved away.
 */
export function living(notes: string, namespace?: string, file = notes): Entry[] {
  const found = new Map<string, Entry>();
  const inside = namespace === undefined ? undefined : innerNumbers(namespace);
  const now = (entry: Entry): Entry[] =>
    inside === undefined ? isNow(entry) : (inside.get(identity(entry)) ?? []);
  const candidates = [...noted(file).flatMap(now), ...namedInArguments(notes)];
  for (const entry of candidates) if (isAlive(entry)) found.set(identity(entry), entry);
  return [...found.values()];
}

/** How much was noted: it grows when a process of the tree runs on. */
export function notedBytes(notes: string): number {
  return statSync(notes).size;
}

/** SIGKILL to one process, if it is still the same. */
export function killEntry(entry: Entry): void {
  if (isNow(entry).length === 0) return;
  try {
    process.kill(entry.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** One process as it is now; undefined when there is none. Throws when the look fails: unknown is not dead. */
export function readEntry(pid: number): Entry | undefined {
  return parse(readIfThere(`/proc/${pid}/stat`))[0];
}

/** A zombie does not run, unless it is only the first thread of a program whose other threads go on. */
function isAlive({ state, threads }: Entry): boolean {
  return !['Z', 'X', 'x'].includes(state) || threads > 1;
}

function isNow(entry: Entry): Entry[] {
  const now = readEntry(entry.pid);
  return now?.startTime === entry.startTime ? [now] : [];
}

/** The PID namespace of a process, or that of its children; undefined when the process is gone. */
export function namespaceOf(pid: number, whose: 'pid' | 'pid_for_children'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${whose}`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return undefined;
    throw error;
  }
}

/** The processes of a PID namespace, by their pid there, as they note themselves, and start time. */
function innerNumbers(namespace: string): Map<string, Entry[]> {
  const inside = new Map<string, Entry[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || namespaceOf(Number(name), 'pid') !== namespace) continue;
    const inner = /^NSpid:.*\t(\d+)$/m.exec(readIfThere(`/proc/${name}/status`))?.[1] ?? '';
    const entry = readEntry(Number(name));
    if (entry !== undefined) inside.set(`${inner}:${entry.startTime}`, [entry]);
  }
  return inside;
}

function namedInArguments(text: string): Entry[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    return readIfThere(`/proc/${name}/cmdline`).includes(text) ? (readEntry(Number(name)) ?? []) : [];
  });
}

/** The name in parentheses may itself contain spaces and parentheses, so fields count from the last one. */
function parse(line: string): Entry[] {
  const match = /^(\d+) \((.*)\) (.+)$/s.exec(line);
  if (match === null) return [];
  const [, pid, command = '', rest = ''] = match;
  const fields = rest.split(' ');
  return [
    {
      pid: Number(pid),
      command,
      state: fields[0] ?? '?',
      parent: Number(fields[1]),
      session: Number(fields[3]),
      threads: Number(fields[17]),
      startTime: fields[19] ?? '',
    },
  ];
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Gone, or the program of another user: all of ours have our user.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return '';
    throw error;
  }
}

function identity({ pid, startTime }: Entry): string {
  return `${pid}:${startTime}`;
}
