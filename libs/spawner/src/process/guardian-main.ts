/**
 * The guardian: a process of its own below each worker. The kernel delivers an end of file on its stdin however the worker
 * dies. Then the guardian kills every tree of that worker, proves it, and removes the worker's files
 * (docs/process-signals.md#when-the-worker-dies).
 *
 * Under containment `descent` and `cgroup` it also starts the agents, as a child subreaper. The descendants of an agent descend
 * from the guardian, and stay so when the worker is gone. When the guardian is gone, they become children of the worker, a
 * subreaper above it.
 */
import { read, writeSync } from 'node:fs';
import { becomeSubreaper, openLibc, type Libc } from '../native';
import { Cgroup } from './cgroup';
import { endDescendants } from './end-descendants';
import { endWorkerTrees } from './end-worker-trees';
import type { EndedTrees } from './ended-trees';
import { endByUser, giveBackUids, tryToRevoke } from './end-uids';
import { GuardedAgents } from './guarded-agents';
import { holdFolder, type HeldFolder } from './held-folder';
import { isSucceeded } from './host-record';
import { GUARDIAN_READY, monotonicMs, pongOf, type GuardianMessage } from './guardian-protocol';
import type { PidStart } from './proc-stat';
import { toSeen } from './process-tree';
import { removePaths } from './remove-paths';
import { shieldProcess } from './shield-process';
import { MessageReader } from './start-order';
import { writeProof, writeUnproved } from './worker-proof';

/** After this long of killing, the survivors are left to the reaper, at the next start of a worker here. */
const BOUND_MS = 60_000;
/** A timer that is later than this shows that this process itself was stopped. */
const LATE_MS = 50;
/** Long enough to read the bytes that wait in the pipe. */
const READ_FIRST_MS = 50;
/** The descriptors of agents come through this socket. */
const SOCKET_FD = 3;

let watched: Extract<GuardianMessage, { type: 'watch' }> | undefined;
/** The leaders of trees that this process did not start. */
const leaders = new Map<number, PidStart>();
let agents: GuardedAgents | undefined;
/**
 * The worker's cgroup, held open. A guardian may act late (it was stopped, the machine was busy), and a later worker with the
 * same id has another cgroup at the same path.
 */
let folder: HeldFolder | undefined;
let cgroup: Cgroup | undefined;
let libc: Libc | undefined;
let fence: NodeJS.Timeout | undefined;

// The guardian must outlive any signal that ends the worker: signals to the terminal's group, a service manager's first
// SIGTERM.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE'] as const)
  process.on(signal, () => {});
// A fault must not end the watch: the end of file still comes.
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

/** A fault in one message must not affect the next ones. */
function tryToObey(message: GuardianMessage, strings: Buffer): void {
  try {
    apply(message, strings);
  } catch {
    // The worker notices that there is no answer.
  }
}

function apply(message: GuardianMessage, strings: Buffer): void {
  switch (message.type) {
    case 'watch':
      watched = message;
      folder = message.marks.cgroup === undefined ? undefined : holdFolder(message.marks.cgroup);
      cgroup = folder === undefined ? undefined : new Cgroup(folder.path);
      for (const leader of message.marks.leaders) leaders.set(leader.pid, leader);
      if (message.starts) agents = beginStarts();
      say(GUARDIAN_READY);
      // Loaded now, since loading takes about 15 ms and a kill must not wait for it.
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

/** The worker may be gone: that must not affect the next messages. */
function say(line: string): void {
  try {
    writeSync(1, `${line}\n`);
  } catch {
    // The end of file on stdin says the same.
  }
}

/** After this process was stopped, a timer fires before the pipe is read, where a newer fence may wait. */
function fenceDue(at: number): void {
  const wasStopped = monotonicMs() - at > LATE_MS;
  if (wasStopped) fence = setTimeout(() => void fenceOff(), READ_FIRST_MS);
  else void fenceOff();
}

/** The worker may still exist (stopped, hung): its trees end, its cgroup and record stay. */
async function fenceOff(): Promise<void> {
  const known = [...leaders.values(), ...(agents?.leaders() ?? [])];
  const ended = await killAll(false);
  const { proved, processes, evidence } = ended;
  if (!proved) tellUnproved(ended);
  if (!proved || watched === undefined) return;
  // A leader may have been started while its worker was stopped. Then it was among the killed processes.
  const dead = [...known, ...processes].map(({ pid, startTime }) => ({ pid, startTime }));
  if (dead.length === 0) return;
  const { path, workerId, containment, key } = watched.proof;
  // Other workers of the host report the proof while this worker cannot.
  const seen = processes.map(toSeen);
  writeProof(path, { workerId, containment, processes: seen, by: 'guardian', evidence, leaders: dead }, key);
}

/** This process has no log: a worker of the data directory reports it. */
function tellUnproved({ unproved }: EndedTrees): void {
  try {
    if (unproved !== undefined && watched !== undefined)
      writeUnproved(watched.proof.path, watched.proof.workerId, unproved);
  } catch {
    // The missing proof shows without it.
  }
}

async function killAll(isWorkerDead: boolean): Promise<EndedTrees> {
  const ended = await killTrees(isWorkerDead);
  const uids = watched?.marks.uids;
  return uids === undefined ? ended : endByUser(ended, uids, BOUND_MS, libc);
}

async function killTrees(isWorkerDead: boolean): Promise<EndedTrees> {
  if (watched === undefined) return { proved: true, processes: [], evidence: ['sweep-empty'] };
  const marks = { ...watched.marks, cgroup: cgroup?.path, leaders: [...leaders.values()] };
  if (agents === undefined || libc === undefined) return endWorkerTrees(marks, BOUND_MS, libc);
  const orphans = watched.proof.containment === 'namespace' ? 'orphans' : 'none';
  const reap = isWorkerDead ? 'all' : orphans;
  const below = endDescendants(BOUND_MS, libc, { leaders: agents.leaders(), reap, cgroup });
  if (leaders.size === 0) return below;
  // Started by the worker, or by an earlier guardian, so they are no descendants of this process.
  const beside = endWorkerTrees(marks, BOUND_MS, libc);
  // Beside each other: trees that cannot be ended must not delay the others.
  const [ours, others] = await Promise.all([below, beside]);
  const unproved = ours.unproved ?? others.unproved;
  return {
    proved: ours.proved && others.proved,
    processes: [...ours.processes, ...others.processes],
    evidence: others.evidence,
    ...(unproved === undefined ? {} : { unproved }),
  };
}

/** Without it the worker learns that it has no guardian, and starts no agents. */
function beginStarts(): GuardedAgents {
  libc = loadLibc();
  if (libc === undefined) process.exit(1);
  becomeSubreaper(libc);
  const begun = new GuardedAgents(libc, SOCKET_FD, say);
  process.on('SIGCHLD', () => begun.tellExits());
  return begun;
}

function loadLibc(): Libc | undefined {
  // Agents of the same user are its children, and its memory has the cookies of all of them.
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
    if (proved && isRevoked && watched !== undefined && !isLate(watched)) {
      const { path, workerId, containment, key } = watched.proof;
      // Before the record is removed: from then on nothing else says how the processes ended.
      const seen = processes.map(toSeen);
      writeProof(path, { workerId, containment, processes: seen, by: 'guardian', evidence }, key);
      const removed = removeCgroup(watched.marks.cgroup);
      const { uids } = watched.marks;
      const isGiven = uids === undefined || (await giveBackUids(uids));
      if (removed && isGiven && !isLate(watched)) await removePaths(watched.remove);
    }
  } catch {
    // Not everything is done: the record stays, so that the next worker here finds the rest.
  } finally {
    lastStrike();
    process.exit(0);
  }
}

/** @returns false when it is still there. */
function removeCgroup(path: string | undefined): boolean {
  if (path === undefined || folder?.is(path) !== true) return true;
  return new Cgroup(path).remove();
}

/** The next worker with this id reaped these trees and proved their end. The files with the id are its own. */
function isLate({ dataDir, proof, marks }: NonNullable<typeof watched>): boolean {
  return isSucceeded(dataDir, proof.workerId, marks.cookie);
}

/** After any error the guardian still kills the worker's cgroup before it exits. */
function lastStrike(): void {
  try {
    cgroup?.kill(libc);
  } catch {
    // Only the next worker here can try again.
  }
}
