import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import type { NodeLimits } from '#libs/contracts';
import type { AgentProcess, Containment } from '#libs/spawner';
import { freezerMissing, holdUnkillable, removeHold } from './freezer';
import type { Entry } from './truth';

/** A tree as the suite itself sees it, before the stop. */
export interface Tree {
  readonly leader: number;
  /** Its living processes. */
  readonly alive: readonly Entry[];
}

/** One way of being hard to kill. */
export interface Kind {
  readonly name: string;
  /** In test/fixtures/trees; run by /bin/sh, or by perl when it ends in .pl. */
  readonly fixture: string;
  /** How many processes have noted themselves when the tree is complete; those already gone count. */
  readonly noted: number;
  /** Whether the tree really is what its name says. Otherwise a fixture that went wrong would pass for a kill. */
  isSo(tree: Tree): boolean;
  /** Default GRACE_MS of run-kind.ts. */
  readonly graceMs?: number;
  readonly limits?: NodeLimits;
  /** Trees alive at a time, where LANES of run-kind.ts are too many. */
  readonly lanes?: number;
  /** Changes the complete tree before the stop. @returns a function that is called when the round is over. */
  before?(agent: AgentProcess): Promise<(() => void) | void>;
  /** Where Belay ends some of it on sight, before any stop: then the rest is the tree. */
  readonly endedOnSightIn?: readonly Containment[];
  /** Where Belay cannot see it (docs/proof-of-stop.md): the table shows the survivors, and the run goes on. */
  readonly unseenIn?: Containment;
  /** Why it cannot be made on this machine; undefined when it can. */
  missing?(): string | undefined;
}

/** Longer than the grace, so that SIGKILL finds the process where no signal reaches it. */
const HELD_MS = 250;

/** Every kind, in the order of the table. */
export const KINDS: readonly Kind[] = [
  { name: 'polite', fixture: 'polite.sh', noted: 1, isSo: ({ alive }) => alive.length === 1 },
  { name: 'deaf', fixture: 'deaf.sh', noted: 2, isSo: ({ alive }) => alive.length === 2 },
  {
    name: 'exits-in-grace',
    fixture: 'exits-in-grace.sh',
    noted: 2,
    graceMs: 1_000,
    isSo: ({ alive }) => alive.length === 2,
  },
  {
    name: 'deaf-grandchildren',
    fixture: 'deaf-grandchildren.sh',
    noted: 7,
    isSo: ({ leader, alive }) => alive.filter(({ parent }) => parent !== leader).length >= 5,
  },
  { name: 'setsid', fixture: 'setsid.sh', noted: 3, isSo: (tree) => elsewhere(tree).length === 2 },
  {
    name: 'double-fork',
    fixture: 'double-fork.sh',
    noted: 3,
    isSo: (tree) => elsewhere(tree).length === 1 && orphans(tree).length === 1,
  },
  { name: 'disowned', fixture: 'disowned.sh', noted: 3, isSo: (tree) => orphans(tree).length === 1 },
  {
    name: 'stopped',
    fixture: 'stopped.sh',
    noted: 2,
    isSo: ({ alive }) => alive.filter(({ state }) => state === 'T').length === 2,
  },
  {
    name: 'frozen',
    fixture: 'deaf-grandchildren.sh',
    noted: 7,
    isSo: ({ alive }) => alive.length === 7,
    before: async (agent) => agent.freeze(),
  },
  {
    name: 'fork-loop',
    fixture: 'fork-loop.sh',
    noted: 14,
    limits: { pids: 64 },
    // Each leaves a thousand orphans a second to init, and an init that reaps slowly slows every look at /proc.
    lanes: 1,
    isSo: ({ alive }) => alive.length >= 2,
  },
  {
    name: 'cleared',
    fixture: 'cleared.sh',
    noted: 3,
    isSo: (tree) => elsewhere(tree).length === 1 && orphans(tree).length === 1,
  },
  {
    name: 'unmarked',
    fixture: 'unmarked.sh',
    noted: 3,
    endedOnSightIn: ['descent'],
    unseenIn: 'marks',
    isSo: (tree) => elsewhere(tree).length === 1 && orphans(tree).length === 1,
  },
  {
    name: 'moved',
    fixture: 'moved.sh',
    noted: 3,
    endedOnSightIn: ['cgroup', 'descent'],
    unseenIn: 'marks',
    isSo: (tree) =>
      elsewhere(tree).length === 1 &&
      orphans(tree).length === 1 &&
      orphans(tree).every(({ pid }) => cgroupOf(pid) === cgroupOf('self')),
  },
  {
    name: 'holds-pipe',
    fixture: 'holds-pipe.sh',
    noted: 3,
    isSo: (tree) => orphans(tree).some(({ pid }) => stdoutOf(pid) === stdoutOf(tree.leader)),
  },
  { name: 'orphaned', fixture: 'orphaned.sh', noted: 6, isSo: (tree) => orphans(tree).length === 3 },
  {
    name: 'uninterruptible',
    fixture: 'uninterruptible.pl',
    noted: 2,
    isSo: ({ leader, alive }) => alive.some(({ pid, state }) => pid === leader && state === 'D'),
    missing: () => {
      if (!existsSync(PERL)) return `there is no ${PERL} to call clone(2) with`;
      return ['x64', 'arm64'].includes(process.arch) ? undefined : `no clone(2) number for ${process.arch}`;
    },
  },
  {
    name: 'unkillable',
    fixture: 'deaf-grandchildren.sh',
    noted: 7,
    isSo: ({ alive }) => alive.length === 7,
    before: async ({ identity: { pid } }) => {
      const letGo = holdUnkillable(pid);
      const timer = setTimeout(letGo, HELD_MS);
      return () => {
        clearTimeout(timer);
        letGo();
        removeHold(pid);
      };
    },
    missing: freezerMissing,
  },
];

const PERL = '/usr/bin/perl';

/** The interpreter of a fixture. */
export function interpreterOf({ fixture }: Kind): string {
  return fixture.endsWith('.pl') ? PERL : '/bin/sh';
}

/** Processes of another session than the first process. */
function elsewhere({ leader, alive }: Tree): Entry[] {
  return alive.filter(({ session }) => session !== leader);
}

/** Processes other than the first one whose parent does not belong to the tree. */
function orphans({ leader, alive }: Tree): Entry[] {
  return alive.filter(({ pid, parent }) => pid !== leader && alive.every((other) => other.pid !== parent));
}

/** The lines of cgroup v2 alone; undefined when the process is gone. */
function cgroupOf(pid: number | 'self'): string | undefined {
  try {
    return /^0::.*$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[0];
  } catch {
    return undefined;
  }
}

function stdoutOf(pid: number): string {
  return readlinkSync(`/proc/${pid}/fd/1`);
}
