import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../../../test/support/proc';
import { openLibc, openPidfd } from '../native';
import { createProcessHost } from './process-host';

const found = openLibc();
const itAsRoot = 'libc' in found && process.getuid?.() === 0 ? it : it.skip;
const SYS_PIDFD_GETFD = 438;
const STDOUT = 1;

jest.setTimeout(60_000);

describe('the worker of a guardian that dies', () => {
  itAsRoot('R54 notices the ends of its agents while another process holds its output open', async () => {
    if (!('libc' in found)) throw new Error(found.reason);
    const { libc } = found;
    const dataDir = mkdtempSync(join(tmpdir(), 'belay-guardian-'));
    const host = await createProcessHost({
      workerId: 'held',
      dataDir,
      containment: 'descent',
      ownsProcess: true,
      killWaitMs: 2_000,
    });
    const first = host.guardianPid ?? 0;
    const guardian = openPidfd(libc, first) ?? -1;
    // As the child does that the guardian is making, until the child has executed its command.
    const held = libc.syscall(SYS_PIDFD_GETFD, guardian, STDOUT, null, 0);
    closeSync(guardian);
    try {
      expect(held).toBeGreaterThan(0);
      const given = { shell: false, env: {}, stdin: '', graceMs: 0, onOutput: () => {}, onMessage: () => {} };
      const agent = await host.spawn({ agentId: 'agt_1', command: ['/bin/sleep', '1000'], ...given });
      process.kill(first, 'SIGKILL');
      let answers = false;
      await eventually(
        'another guardian',
        () => {
          if (host.guardianPid !== first) void host.guardianAnswers().then((does) => (answers ||= does));
          return answers;
        },
        20_000,
      );
      const { report, signal } = await agent.stop({ mode: 'immediate', graceMs: 0 });
      expect({ proved: report.proved, signal }).toEqual({ proved: true, signal: 'SIGKILL' });
      const next = await host.spawn({ agentId: 'agt_2', command: ['/bin/true'], ...given });
      expect(await next.ended).toMatchObject({ exitCode: 0 });
    } finally {
      closeSync(held);
      await host.close();
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});
