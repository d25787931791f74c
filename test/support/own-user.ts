import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { UidRange } from '#libs/contracts';

/** Pids are below 4,194,304, so the ids of two test processes never overlap. */
const first = 1_000_000 + process.pid * 100;
/** No account has these ids. Test files that run at the same time, in this checkout or in another, have others. */
export const AGENT_UIDS: UidRange = { first, last: first + 99 };

/** Why agents cannot have users of their own here; undefined where they can, and then Belay must be able to give them. */
export function noOwnUsers(): string | undefined {
  if (process.getuid?.() !== 0) return 'this is not root';
  const { status } = spawnSync('setpriv', [`--reuid=${first}`, `--regid=${first}`, '--clear-groups', 'true']);
  return status === 0 ? undefined : 'setpriv(1) is missing, or may not change users here';
}

/** The pids of a user's live processes, by the test's own look: any of the four ids counts. */
export function processesOf(uid: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      const ids = /^Uid:\t(.*)$/m.exec(status)?.[1]?.split('\t') ?? [];
      return ids.includes(String(uid)) && !/^State:\s+[ZX]/m.test(status) ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** Live processes of any of the users that tests give to agents. */
export function processesOfAgents(): number[] {
  const pids = new Set<number>();
  for (const name of readdirSync('/proc')) {
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1]);
      if (uid >= AGENT_UIDS.first && uid <= AGENT_UIDS.last && !/^State:\s+[ZX]/m.test(status))
        pids.add(Number(name));
    } catch {
      // gone, or no process
    }
  }
  return [...pids];
}
