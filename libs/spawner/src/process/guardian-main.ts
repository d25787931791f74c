/**
 * The guardian: a process of its own below each worker. At end of file on its stdin, which the kernel delivers
 * however the worker dies, it kills every tree of that worker, proves it, and removes what the worker left (requirement R17).
 *
 * Under containment `descent` and `cgroup` it starts the agents too, as a child subreaper: what descends from an agent descends
 * from it, and stays so when the worker is gone. When it is gone itself, all of it becomes the worker's, a subreaper above it.
 */
import { read, writeSync } from 'node:fs';
import { becomeSubreaper, openLibc, type Libc } from '../native';
import { Cgroup } from './cgroup';
import { endDescendants } from './end-descendants';
import { endWorkerTrees } from './end-worker-trees';
import type { EndedTrees } from './ended-trees';
import { endByUser, giveBackUids, tryToRevoke } from './end-uids';
import { GuardedAgents } from './guarded-agents';
import { GUARDIAN_READY, monotonicMs, pongOf, type GuardianMessage } from './guardian-protocol';
import type { PidStart } from './proc-stat';
import { toSeen } from './process-tree';
import { removePaths } from './remove-paths';
import { shieldProcess } from './shield-process';
import { MessageReader } from './start-order';
import { writeProof, writeUnproved } from './worker-proof';

/** After this long of killing, what is left is the reaper's at the next start of a worker here. */
const BOUND_MS = 60_000;
/** A timer that is due for longer than this says that this process was stopped itself. */
const LATE_MS = 50;
/** Long enough to read what waits in the pipe. */
const READ_FIRST_MS = 50;
/** The descriptors of agents come through it. */
const SOCKET_FD = 3;

let watched: Extract<GuardianMessage, { type: 'watch' }> | undefined;
/** Of trees that this process did not start. */
const leaders = new Map<number, PidStart>();
let agents: GuardedAgents | undefined;
let libc: Libc | undefined;
let fence: NodeJS.Timeout | undefined;

// It has to outlive whatever ends the worker: signals to the terminal's group, a service manager's first SIGTERM.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE'] as const)
  process.on(signal, () => {});
// A fault must not cost the watch: the end of file still comes.
process.on('uncaughtException', () => {});

const input = Buffer.allocUnsafe(64 * 1024);
const messages = new MessageReader(tryToObey);
listen();

function listen(): void {
  read(0, input, 0, input.length, null, (error, length) => {
    if (error?.code === 'EINTR' || error?.code === 'EAGAIN') return void setTimeout(listen, 1);
    if (error !== null || length === 0) return void workerDied();
    try {
      messages.write(input.subarray(0, length));
    } finally {
      listen();
    }
  });
}

/** A fault in one message must not cost those after it. */
function tryToObey(message: GuardianMessage, strings: Buffer): void {
  try {
    apply(message, strings);
  } catch {
    // The worker notices that it has no answer.
  }
}

function apply(message: GuardianMessage, strings: Buffer): void {
  switch (message.type) {
    case 'watch':
      watched = message;
      for (const leader of message.marks.leaders) leaders.set(leader.pid, leader);
      if (message.starts) agents = beginStarts();
      say(GUARDIAN_READY);
      // Now, and not when a kill is due: loading takes about 15 ms.
      if (message.native) libc = loadLibc();
      return;
    case 'start':
      agents?.start(message.id, { ...message, strings });
      return;
    case 'reap':
      agents?.reap(message.id, message.pids);
      return;
    case 'started':
      leaders.set(message.leader.pid, message.leader);
      return;
    case 'ended':
      leaders.delete(message.pid);
      return;
    case 'fence':
      clearTimeout(fence);
      fence = message.at > 0 ? setTimeout(() => fenceDue(message.at), message.at - monotonicMs()) : undefined;
      return;
    case 'ping':
      if (watched !== undefined) say(pongOf(message.nonce));
      return;
    case 'bye':
      process.exit(0);
  }
}

/** Nobody may be left to read it: that must not cost the messages after this one. */
function say(line: string): void {
  try {
    writeSync(1, `${line}\n`);
  } catch {
    // The end of file on stdin says the same.
  }
}

/** After a stop of its own a timer fires before the pipe is read, where a newer fence may be waiting. */
function fenceDue(at: number): void {
  const wasStopped = monotonicMs() - at > LATE_MS;
  if (wasStopped) fence = setTimeout(() => void fenceOff(), READ_FIRST_MS);
  else void fenceOff();
}

/** The worker may still be there (stopped, hung): its trees end, its cgroup and record stay. */
async function fenceOff(): Promise<void> {
  const known = [...leaders.values(), ...(agents?.leaders() ?? [])];
  const ended = await killAll(false);
  const { proved, processes, evidence } = ended;
  if (!proved) tellUnproved(ended);
  if (!proved || watched === undefined) return;
  // Who led a tree may have been started while its worker was stopped: then it was among those that were killed.
  const dead = [...known, ...processes].map(({ pid, startTime }) => ({ pid, startTime }));
  if (dead.length === 0) return;
  const { path, workerId, containment, key } = watched.proof;
  // Others of its host tell it while it cannot.
  const seen = processes.map(toSeen);
  writeProof(path, { workerId, containment, processes: seen, by: 'guardian', evidence, leaders: dead }, key);
}

/** This process has no log: a worker of the data directory tells it. */
function tellUnproved({ unproved }: EndedTrees): void {
  try {
    if (unproved !== undefined && watched !== undefined)
      writeUnproved(watched.proof.path, watched.proof.workerId, unproved);
  } catch {
    // That nothing is proved shows all the same.
  }
}

async function killAll(isWorkerDead: boolean): Promise<EndedTrees> {
  const ended = await killTrees(isWorkerDead);
  const uids = watched?.marks.uids;
  return uids === undefined ? ended : endByUser(ended, uids, BOUND_MS, libc);
}

async function killTrees(isWorkerDead: boolean): Promise<EndedTrees> {
  if (watched === undefined) return { proved: true, processes: [], evidence: ['sweep-empty'] };
  const marks = { ...watched.marks, leaders: [...leaders.values()] };
  if (agents === undefined || libc === undefined) return endWorkerTrees(marks, BOUND_MS, libc);
  const cgroup = marks.cgroup === undefined ? undefined : new Cgroup(marks.cgroup);
  const below = endDescendants(BOUND_MS, libc, { leaders: agents.leaders(), reap: isWorkerDead, cgroup });
  if (leaders.size === 0) return below;
  // Started by the worker, or by a guardian before this one: they are no descendants of ours.
  const beside = endWorkerTrees(marks, BOUND_MS, libc);
  // Beside each other: those that cannot be ended must not put off the others.
  const [ours, others] = await Promise.all([below, beside]);
  const unproved = ours.unproved ?? others.unproved;
  return {
    proved: ours.proved && others.proved,
    processes: [...ours.processes, ...others.processes],
    evidence: others.evidence,
    ...(unproved === undefined ? {} : { unproved }),
  };
}

/** Without it the worker is told that there is no guardian: it starts no agents then. */
function beginStarts(): GuardedAgents {
  libc = loadLibc();
  if (libc === undefined) process.exit(1);
  becomeSubreaper(libc);
  const begun = new GuardedAgents(libc, SOCKET_FD, say);
  process.on('SIGCHLD', () => begun.tellExits());
  return begun;
}

function loadLibc(): Libc | undefined {
  // Agents of the same user are its children, and the cookies of all of them are in its memory.
  shieldProcess('auto');
  const found = openLibc();
  return 'libc' in found ? found.libc : undefined;
}

async function workerDied(): Promise<void> {
  clearTimeout(fence);
  try {
    const isRevoked = tryToRevoke(watched?.marks.uids);
    const ended = await killAll(true);
    const { proved, processes, evidence } = ended;
    if (!proved) tellUnproved(ended);
    if (proved && isRevoked && watched !== undefined) {
      const { path, workerId, containment, key } = watched.proof;
      // Before the record goes: from then on nothing else says what became of them.
      const seen = processes.map(toSeen);
      writeProof(path, { workerId, containment, processes: seen, by: 'guardian', evidence }, key);
      const { cgroup } = watched.marks;
      const removed = cgroup === undefined || new Cgroup(cgroup).remove();
      const { uids } = watched.marks;
      const isGiven = uids === undefined || (await giveBackUids(uids));
      if (removed && isGiven) await removePaths(watched.remove);
    }
  } catch {
    // Not all is seen to: the record stays, by which the next worker here finds the rest.
  } finally {
    lastStrike();
    process.exit(0);
  }
}

/** After any error the guardian still kills the worker's cgroup before it exits. */
function lastStrike(): void {
  const { cgroup } = watched?.marks ?? {};
  try {
    if (cgroup !== undefined) new Cgroup(cgroup).kill(libc);
  } catch {
    // Nobody is left to try again but the next worker here.
  }
}
