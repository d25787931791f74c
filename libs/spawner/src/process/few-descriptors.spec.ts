import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../../../test/support/proc';
import {
  descriptorSocket,
  encodeStrings,
  getResourceLimit,
  openLibc,
  reapChild,
  RLIMIT_NOFILE,
  sendDescriptors,
  setResourceLimit,
  type Libc,
} from '../native';
import { childrenOf } from './descendants';
import { GuardedAgents } from './guarded-agents';
import { isRunning, readStat } from './proc-stat';
import { createProcessHost } from './process-host';
import type { ProcessHost } from './process-host.types';

const found = openLibc();
const describeNative = 'libc' in found ? describe : describe.skip;
const libc = 'libc' in found ? found.libc : (undefined as unknown as Libc);
/** A start needs fewer descriptors than this. */
const ENOUGH = 16;
const SLEEP = ['/bin/sleep', '1000'] as const;

jest.setTimeout(60_000);

/** From here on this process can open so many descriptors. @returns a function that takes that back. */
function leaveDescriptors(count: number): () => void {
  const used = new Set(openDescriptors());
  let limit = 0;
  for (let free = 0; free < count || used.has(limit); limit += 1) if (!used.has(limit)) free += 1;
  const was = setResourceLimit(libc, 0, RLIMIT_NOFILE, {
    ...getResourceLimit(libc, 0, RLIMIT_NOFILE),
    soft: BigInt(limit),
  });
  return () => void setResourceLimit(libc, 0, RLIMIT_NOFILE, was);
}

/** Without the one that the listing itself had. */
function openDescriptors(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => statSync(`/proc/self/fd/${fd}`, { throwIfNoEntry: false }) !== undefined);
}

function runningBelow(pid: number): number[] {
  return childrenOf({ pid, threads: 1 }).filter((child) => {
    const stat = readStat(child);
    return stat !== undefined && isRunning(stat);
  });
}

describeNative('a worker or a guardian that has few descriptors left', () => {
  let dataDir: string;
  let host: ProcessHost | undefined;

  beforeEach(() => (dataDir = mkdtempSync(join(tmpdir(), 'belay-few-'))));
  afterEach(async () => {
    await host?.close();
    host = undefined;
    rmSync(dataDir, { recursive: true, force: true });
  });

  const begin = async (containment: 'descent' | 'marks'): Promise<ProcessHost> =>
    createProcessHost({ workerId: 'few', dataDir, containment, ownsProcess: true });

  it.each(['descent', 'marks'] as const)(
    'R26 R51 no start fails while its process runs, containment %s',
    async (containment) => {
      host = await begin(containment);
      const left: string[] = [];
      let failed = 0;
      for (let count = 0; count < ENOUGH; count += 1) {
        const enough = leaveDescriptors(count);
        const given = {
          shell: false,
          env: {},
          stdin: '',
          graceMs: 0,
          onOutput: () => {},
          onMessage: () => {},
        };
        const started = await host
          .spawn({ agentId: `agt_${count}`, command: [...SLEEP], ...given })
          .catch((error: Error) => error);
        enough();
        // Nothing else runs before this look.
        if (started instanceof Error) {
          failed += 1;
          const parent = containment === 'descent' ? (host.guardianPid ?? 0) : process.pid;
          const running = runningBelow(parent).filter((pid) => readStat(pid)?.parent === parent);
          const others = running.filter((pid) => pid !== host?.guardianPid);
          if (others.length > 0) left.push(`${count}: ${started.message}`);
        } else await started.stop({ mode: 'immediate', graceMs: 0 });
      }
      expect({ left, failed: failed > 0, all: failed === ENOUGH }).toEqual({
        left: [],
        failed: true,
        all: false,
      });
    },
  );

  it('R26 R51 a guardian reports each process that it has started', () => {
    const reports: string[] = [];
    for (let spare = 0; spare < 4; spare += 1) {
      const [ours, theirs] = descriptorSocket(libc);
      const nothing = openSync('/dev/null', 'r');
      const said: string[] = [];
      const agents = new GuardedAgents(libc, theirs, (line) => said.push(line));
      sendDescriptors(libc, ours, 1, [nothing]);
      const plan = { ...encodeStrings({ argv: [...SLEEP], env: {} }), file: SLEEP[0], cwd: '/' };
      const before = new Set(runningBelow(process.pid));
      const enough = leaveDescriptors(1 + spare);
      try {
        agents.start(1, plan);
      } finally {
        enough();
      }
      const made = runningBelow(process.pid).filter((pid) => !before.has(pid));
      for (const pid of made) {
        process.kill(pid, 'SIGKILL');
        while (reapChild(libc, pid) === 'running');
      }
      for (const fd of [ours, theirs, nothing]) closeSync(fd);
      const says = said.at(-1)?.startsWith('spawned') === true ? 'spawned' : 'failed';
      reports.push(`${made.length} made, ${says}`);
    }
    expect(new Set(reports)).toEqual(new Set(['1 made, spawned']));
  });

  it.each(['descent', 'marks'] as const)(
    'R17 another guardian watches once there are descriptors again, containment %s',
    async (containment) => {
      host = await begin(containment);
      let tries = 0;
      const note = (): void => void (tries += 1);
      const first = host.guardianPid ?? 0;
      // Enough for the socket to the next guardian, and not for its pipes.
      const enough = leaveDescriptors(2);
      subscribe('child_process', note);
      try {
        process.kill(first, 'SIGKILL');
        await eventually('a try to start another guardian', () => tries > 0, 10_000);
      } finally {
        unsubscribe('child_process', note);
        enough();
      }
      let answers = false;
      await eventually(
        'another guardian',
        () => {
          void host?.guardianAnswers().then((does) => (answers ||= does));
          return answers;
        },
        10_000,
      ).catch(() => undefined);
      expect({ answers, another: host.guardianPid !== first }).toEqual({ answers: true, another: true });
    },
  );
});
