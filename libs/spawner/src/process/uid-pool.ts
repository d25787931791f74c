import { randomBytes, randomInt } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { UidRange } from '#libs/contracts';
import { giveBackUids, homeOf, removeTree } from './end-uids';
import { hostPlace } from './host-place';
import { ownIdentity } from './host-record';
import { failure } from './resolve-command';
import {
  FOLDER_MODE,
  isOwnerGone,
  listMarks,
  listOwners,
  readOwner,
  removeMark,
  requireOwnFolder,
  revoke,
  UID_FOLDER,
  writeMark,
  writeOwner,
  type UidMarks,
} from './uid-marks';
import { lookForUser } from './uid-empty';
import { UidSweeper } from './uid-sweep';

/** A user id for one agent, with its home. */
export interface TakenUid {
  readonly uid: number;
  /** Mode 0700, owned by that user; contains `tmp`. */
  readonly home: string;
}

/**
 * The user ids of a range, each for one agent at a time on this machine: a file marks it as taken. A worker makes its mark
 * first and looks for others afterwards, so of two workers that want one id at most one gets it. A mark of a dead worker is
 * removed only when no process runs under its id. A start of that worker may still be under way: it checks for the worker's
 * permit last, as that user. The permit is removed before the look for processes, so the start is either seen or finds no
 * permit.
 */
export class UidPool {
  readonly marks: UidMarks;
  readonly sweeper = new UidSweeper();
  /** The folder with the homes of its agents. */
  readonly homes: string;
  readonly #taken = new Set<number>();
  #next: number;

  /** @throws the system's error where the marks or the homes cannot be made. */
  constructor(
    private readonly range: UidRange,
    folder = UID_FOLDER,
  ) {
    this.marks = { folder, token: randomBytes(16).toString('hex') };
    this.homes = mkdtempSync(join(tmpdir(), 'belay-homes-'));
    try {
      // Each agent must reach its own home, and cannot list the others'.
      chmodSync(this.homes, FOLDER_MODE);
      // Not at the beginning: an id that was given back lately may own files outside of its home.
      this.#next = randomInt(range.first, range.last + 1);
      writeOwner(this.marks, { owner: ownIdentity(), place: hostPlace(), homes: this.homes });
    } catch (error) {
      rmSync(this.homes, { recursive: true, force: true });
      throw error;
    }
  }

  /** @throws BelayError SPAWN_FAILED, reason ISOLATION, when no id is free or its home cannot be made. */
  async take(): Promise<TakenUid> {
    const { first, last } = this.range;
    for (let tries = last - first + 1; tries > 0; tries -= 1) {
      const uid = this.#next;
      this.#next = uid === last ? first : uid + 1;
      if (this.#taken.has(uid)) continue;
      this.#taken.add(uid);
      try {
        if (await this.#isOurs(uid)) return { uid, home: this.#makeHome(uid) };
      } catch (error) {
        this.#release(uid);
        throw unprepared(`the user ${uid} could not be prepared (${messageOf(error)})`, error);
      }
      this.#release(uid);
    }
    throw unprepared(`every user id of ${first}-${last} is in use. Give BELAY_AGENT_UIDS more of them`);
  }

  /**
   * Called after the last process of that user was seen dead. The home is removed first: the next agent with this id finds
   * none.
   */
  async giveBack({ uid, home }: TakenUid): Promise<void> {
    await removeTree(home);
    this.#release(uid);
  }

  /** An id under which a process runs stays taken, with its mark. */
  async close(): Promise<void> {
    await giveBackUids(this.marks);
  }

  /**
   * Gives back ids that dead workers of this machine left, and that nobody else gave back: their data directory may be gone.
   */
  async collect(): Promise<void> {
    const { folder } = this.marks;
    for (const token of listOwners(folder)) {
      const marks = { folder, token };
      const owner = readOwner(marks);
      if (owner !== undefined && isOwnerGone(owner)) await giveBackUids(marks);
    }
  }

  async #isOurs(uid: number): Promise<boolean> {
    writeMark(this.marks, uid);
    const dead: { readonly marks: UidMarks; readonly homes: string }[] = [];
    for (const { uid: marked, token } of listMarks(this.marks.folder)) {
      if (marked !== uid || token === this.marks.token) continue;
      const marks = { folder: this.marks.folder, token };
      const owner = readOwner(marks);
      if (owner === undefined || !isOwnerGone(owner)) return false;
      revoke(marks);
      dead.push({ marks, homes: owner.homes });
    }
    // After the permits of the dead workers are removed: see above.
    if (!(await lookForUser(uid, this.sweeper)).isEmpty) return false;
    for (const { marks, homes } of dead) {
      await removeTree(homeOf(homes, uid));
      removeMark(marks, uid);
    }
    return true;
  }

  #makeHome(uid: number): string {
    // A cleaner of temporary files may have removed the folder.
    requireOwnFolder(this.homes);
    const home = homeOf(this.homes, uid);
    const folders = [home, join(home, 'tmp')];
    for (const folder of folders) mkdirSync(folder, { mode: 0o700 });
    for (const folder of folders) chownSync(folder, uid, uid);
    return home;
  }

  #release(uid: number): void {
    removeMark(this.marks, uid);
    this.#taken.delete(uid);
  }
}

function unprepared(why: string, cause?: unknown): Error {
  return failure(
    'ISOLATION',
    `The agent was not started, as its isolation could not be prepared: ${why}.`,
    {},
    cause,
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
