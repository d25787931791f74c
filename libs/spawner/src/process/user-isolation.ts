import { fchownSync, fstatSync, readFileSync, statSync } from 'node:fs';
import type { UidRange } from '#libs/contracts';
import type { Libc } from '../native';
import type { AgentIsolation } from './agent-isolation';
import { asUser, findSetpriv } from './set-user';
import { permitPath, type UidMarks } from './uid-marks';
import { UidPool } from './uid-pool';
import { UidTree } from './uid-tree';

/** The rights that a worker needs, by their bits (capabilities(7)). */
const NEEDED = { CHOWN: 0, DAC_OVERRIDE: 1, KILL: 5, SETGID: 6, SETUID: 7 };
/** Mode bits of a directory that let other users in. */
const OPEN_TO_OTHERS = 0o077;
/** Files of accounts, each with the id in its third column. */
const ACCOUNTS = ['/etc/passwd', '/etc/group'] as const;

/** Why agents of this process cannot have users of their own; undefined when they can, as far as known before the first. */
export function userMissing(range: UidRange | undefined, dataDir: string): string | undefined {
  if (range === undefined) return 'no user ids are given (BELAY_AGENT_UIDS)';
  if (findSetpriv() === undefined) return 'setpriv(1) is not there: install util-linux';
  const held = BigInt(`0x${/^CapEff:\t([0-9a-f]+)$/m.exec(readText('/proc/self/status'))?.[1] ?? '0'}`);
  const lacking = Object.entries(NEEDED).flatMap(([name, bit]) =>
    ((held >> BigInt(bit)) & 1n) === 1n ? [] : [`CAP_${name}`],
  );
  if (lacking.length > 0) return `the worker lacks ${lacking.join(', ')}: run it as root`;
  for (const file of ACCOUNTS) {
    const account = accountIn(file, range);
    if (account !== undefined) return `${account} of ${file} has one of the user ids`;
  }
  const { uid, mode } = statSync(dataDir);
  if ((mode & OPEN_TO_OTHERS) !== 0) return `${dataDir} is open to others: chmod 700 ${dataDir}`;
  if (uid >= range.first && uid <= range.last) return `${dataDir} belongs to one of the user ids`;
  return undefined;
}

function accountIn(file: string, { first, last }: UidRange): string | undefined {
  return readText(file)
    .split('\n')
    .map((line) => line.split(':'))
    .find(([, , id = '']) => id !== '' && Number(id) >= first && Number(id) <= last)?.[0];
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Isolation `user`: each agent has a user of its own (ADR 0019). */
export class UserIsolation {
  readonly isolation = 'user';
  readonly #pool: UidPool;

  /** @throws the system's error where user ids cannot be marked as taken. */
  constructor(
    range: UidRange,
    private readonly libc: Libc | undefined,
    folder?: string,
  ) {
    this.#pool = new UidPool(range, folder);
  }

  /** The marks with which guardian and reaper find processes of this worker's user ids. */
  get marks(): UidMarks {
    return this.#pool.marks;
  }

  collect(): Promise<void> {
    return this.#pool.collect();
  }

  readonly prepare = async (): Promise<AgentIsolation> => {
    const taken = await this.#pool.take();
    const { uid, home } = taken;
    const giveBack = async (): Promise<void> => this.#pool.giveBack(taken);
    return {
      before: asUser(uid),
      env: { HOME: home, TMPDIR: `${home}/tmp` },
      permit: permitPath(this.#pool.marks),
      give: (fd) => giveTo(fd, uid),
      wrap: (inner) => new UidTree({ inner, uid, sweeper: this.#pool.sweeper, libc: this.libc, giveBack }),
      release: giveBack,
    };
  };

  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** So that the agent can open the file again by name, as /dev/stdin and /dev/stderr. Everybody may open devices. */
function giveTo(fd: number, uid: number): void {
  const kind = fstatSync(fd);
  if (kind.isFIFO() || kind.isFile()) fchownSync(fd, uid, uid);
}
