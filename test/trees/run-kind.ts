import { chmodSync, existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Isolation, StopReport } from '#libs/contracts';
import { createProcessHost, type AgentProcess, type Containment, type ProcessHost } from '#libs/spawner';
import { pause, within } from '../../bench/measure';
import { AGENT_UIDS } from '../support/own-user';
import { interpreterOf, type Kind } from './kinds';
import { firstOf, killEntry, living, namespaceOf, noted, notedBytes, type Entry } from './truth';

/** Beside the source, wherever this runs from: tests run the source, the suite runs the build. */
const FIXTURES = ['../fixtures/trees', '../../../test/fixtures/trees']
  .map((path) => resolve(__dirname, path))
  .find((path) => existsSync(path)) as string;
const GRACE_MS = 80;
const KILL_WAIT_MS = 2_000;
const DRAIN_MS = 500;
/** Trees alive at a time, each stopped by itself. */
const LANES = 4;
const COMPLETE_WITHIN_MS = 15_000;
/** The time that a busy machine may add to a stop's own bound. */
const NOISE_MS = 5_000;
const CLOSE_WITHIN_MS = 30_000;
const CLEAN_WITHIN_MS = 10_000;
/** After the last round: a process that runs on unseen in a fork loop notes itself many times in this time. */
const LATE_LOOK_MS = 50;
const POLL_MS = 3;

/** A failure of a run: a false proof, or a round that could not be made. */
export interface Failure {
  readonly round: number;
  readonly what: string;
  readonly pids: readonly number[];
}

/** All rounds of one kind in one containment. */
export interface Outcome {
  readonly kind: string;
  readonly containment: Containment;
  readonly isolation: Isolation;
  readonly rounds: number;
  /** How many Belay reported as proved. */
  readonly proved: number;
  readonly unconfirmed: number;
  /** Rounds after whose answer a process lived, whatever the answer was. */
  readonly survived: number;
  /** Asked → proved dead, by Belay's clock; one for each proved round. */
  readonly provedMs: readonly number[];
  readonly failures: readonly Failure[];
}

export interface RunOptions {
  readonly rounds: number;
  /** Agents have users of their own. */
  readonly user?: boolean;
  readonly signal?: AbortSignal;
  onRound?(done: number): void;
  /** Tests pass a host that lies. */
  readonly startHost?: typeof createProcessHost;
}

/** A host with a directory of its own; `close` removes all of it. */
export async function openHost(
  containment: Containment,
  { startHost: start = createProcessHost, user = false }: Pick<RunOptions, 'startHost' | 'user'> = {},
): Promise<{ host: ProcessHost; folder: string; close(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'belay-trees-'));
  // Agents of other users reach their notes there.
  if (user) chmodSync(folder, 0o711);
  const dataDir = user ? join(folder, 'data') : folder;
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const host = await start({
      workerId: folder.slice(folder.lastIndexOf('/') + 1),
      dataDir,
      containment,
      ...(user ? { isolation: 'user', agentUids: AGENT_UIDS } : {}),
      ownsProcess: true,
      killWaitMs: KILL_WAIT_MS,
      drainMs: DRAIN_MS,
    });
    const close = async (): Promise<void> =>
      within(CLOSE_WITHIN_MS, 'closing the host', host.close()).finally(remove);
    return { host, folder, close };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Kills trees of one kind, a few at a time, and looks for survivors. Ends its own leftovers. */
export async function runKind(kind: Kind, containment: Containment, options: RunOptions): Promise<Outcome> {
  const { host, folder, close } = await openHost(containment, options);
  const rounds: Round[] = [];
  try {
    const lane = async (): Promise<void> => {
      while (rounds.length < options.rounds && options.signal?.aborted !== true) {
        const round = new Round(
          rounds.length + 1,
          kind,
          folder,
          kind.unseenIn === containment && options.user !== true,
          kind.endedOnSightIn?.includes(containment) === true,
          containment === 'namespace',
        );
        rounds.push(round);
        await round.run(host);
        options.onRound?.(rounds.filter(({ done }) => done).length);
      }
    };
    await Promise.all(Array.from({ length: kind.lanes ?? LANES }, lane));
    await pause(LATE_LOOK_MS);
    for (const round of rounds) round.lookAgain();
  } finally {
    // First by the suite itself: the closing of the host must not clean up what it is judged by.
    await Promise.all(rounds.map(async (round) => round.clean()));
    await close();
  }
  return {
    kind: kind.name,
    containment,
    isolation: host.isolation,
    rounds: rounds.length,
    proved: rounds.filter(({ report }) => report?.proved === true).length,
    unconfirmed: rounds.filter(({ report }) => report?.proved === false).length,
    survived: rounds.filter(({ survived }) => survived).length,
    provedMs: rounds.flatMap(({ report }) => (report?.proved === true ? (report.provedAfterMs ?? []) : [])),
    failures: rounds.flatMap(({ failures }) => failures),
  };
}

/** One tree: grown, stopped, and looked at. */
class Round {
  readonly failures: Failure[] = [];
  report: StopReport | undefined;
  survived = false;
  done = false;
  readonly #notes: string;
  #bytesAtAnswer = 0;
  /** The PID namespace of the tree, if it has one of its own. */
  #namespace: string | undefined;

  constructor(
    private readonly number: number,
    private readonly kind: Kind,
    folder: string,
    private readonly isUnseen: boolean,
    private readonly isCutShort: boolean,
    private readonly isOutside: boolean,
  ) {
    this.#notes = join(folder, `tree-${number}`);
    writeFileSync(this.#notes, '');
    chmodSync(this.#notes, 0o666);
  }

  async run(host: ProcessHost): Promise<void> {
    let after: (() => void) | void = undefined;
    try {
      const agent = await this.#start(host);
      await this.#complete(agent);
      after = await this.kind.before?.(agent);
      const { graceMs = GRACE_MS } = this.kind;
      const boundMs = graceMs + KILL_WAIT_MS + DRAIN_MS + NOISE_MS;
      const stop = agent.stop({ mode: 'graceful', graceMs });
      this.report = (await within(boundMs, 'the stop', stop)).report;
      this.#judge(this.#living());
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error), this.#living());
    } finally {
      this.#tidy(after);
      this.done = true;
    }
  }

  /** A process may have lived between two looks; its notes since then show it. */
  lookAgain(): void {
    if (this.report?.proved !== true || this.failures.length > 0) return;
    const alive = this.#living();
    if (alive.length > 0) return this.#judge(alive);
    if (notedBytes(this.#notes) === this.#bytesAtAnswer) return;
    this.survived = true;
    if (!this.isUnseen) this.#fail('proved, but a process ran on and noted itself', []);
  }

  /** Ends the rest of the tree, by pid and start time; a loop that misses its notes ends by itself. */
  async clean(): Promise<void> {
    const moved = `${this.#notes}.over`;
    renameSync(this.#notes, moved);
    const look = (): Entry[] => living(this.#notes, this.#namespace, moved);
    const deadline = performance.now() + CLEAN_WITHIN_MS;
    for (let left = look(); left.length > 0; left = look()) {
      if (performance.now() > deadline) return this.#fail('could not be ended by the suite either', left);
      for (const entry of left) killEntry(entry);
      await pause(POLL_MS);
    }
  }

  async #start(host: ProcessHost): Promise<AgentProcess> {
    const { limits } = this.kind;
    return host.spawn({
      agentId: `tree-${this.number}`,
      command: [interpreterOf(this.kind), join(FIXTURES, this.kind.fixture), this.#notes],
      shell: false,
      env: {},
      stdin: '',
      graceMs: GRACE_MS,
      ...(limits === undefined ? {} : { limits }),
      onOutput: () => {},
      onMessage: () => {},
    });
  }

  /** Waits until every process has noted itself and the tree is what its kind says. */
  async #complete(agent: AgentProcess): Promise<void> {
    const leader = agent.identity.pid;
    const deadline = performance.now() + COMPLETE_WITHIN_MS;
    while (!this.#isComplete(leader)) {
      if (performance.now() > deadline) {
        void agent.stop({ mode: 'immediate', graceMs: 0 });
        throw new Error(`did not become a tree of this kind within ${COMPLETE_WITHIN_MS} ms`);
      }
      await pause(POLL_MS);
    }
  }

  #isComplete(agent: number): boolean {
    const count = noted(this.#notes).length;
    // Spares a look at every process of the machine as long as the notes alone say no.
    if (count < this.kind.noted && !(this.isCutShort && count > 1)) return false;
    // The parent of the first process has the tree's arguments too.
    if (this.isOutside) this.#namespace = namespaceOf(agent, 'pid_for_children');
    const alive = this.#living().filter(({ pid }) => !this.isOutside || pid !== agent);
    const leader = firstOf(agent, alive, this.isOutside);
    if (count >= this.kind.noted && this.kind.isSo({ leader, alive })) return true;
    // Its first process lives, it has had others, and they are gone.
    return this.isCutShort && count > 1 && alive.length === 1 && alive[0]?.pid === leader;
  }

  #living(): Entry[] {
    return living(this.#notes, this.#namespace);
  }

  #judge(alive: readonly Entry[]): void {
    this.#bytesAtAnswer = notedBytes(this.#notes);
    if (alive.length === 0) return;
    this.survived = true;
    if (this.report?.proved === true && !this.isUnseen) this.#fail('proved, but alive', alive);
  }

  #tidy(after: (() => void) | void): void {
    try {
      after?.();
    } catch (error) {
      this.#fail(`could not be tidied up: ${String(error)}`, []);
    }
  }

  #fail(what: string, alive: readonly Entry[]): void {
    const who = alive.map(({ pid, command, state }) => `${pid} (${command}, ${state})`).join(', ');
    this.failures.push({
      round: this.number,
      what: who === '' ? what : `${what}: ${who}`,
      pids: alive.map(({ pid }) => pid),
    });
  }
}
