import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openLibc } from '../native';
import { Cgroup } from './cgroup';
import { locateCgroup } from './cgroup-locate';

const place = locateCgroup(undefined);
const found = openLibc();
const missing = 'reason' in place ? place.reason : 'reason' in found ? found.reason : undefined;
if (missing !== undefined) process.stdout.write(`Not tested: a kill of a threaded cgroup. ${missing}.\n`);

(missing === undefined ? it : it.skip)(
  'R21 where a cgroup cannot be killed in one step, each process is signalled by descriptor',
  async () => {
    if (!('parent' in place) || !('libc' in found)) return;
    const path = join(place.parent.path, `belay-threaded-${randomUUID()}`);
    mkdirSync(join(path, 'threads'), { recursive: true });
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    const exited = once(child, 'exit');
    const byNumber = jest.spyOn(process, 'kill');
    try {
      writeFileSync(join(path, 'threads', 'cgroup.type'), 'threaded');
      writeFileSync(join(path, 'cgroup.procs'), String(child.pid));
      writeFileSync(join(path, 'threads', 'cgroup.threads'), String(child.pid));
      const threaded = new Cgroup(join(path, 'threads'));
      expect(threaded.pids()).toEqual([child.pid]);
      threaded.kill(found.libc);
      expect(await exited).toEqual([null, 'SIGKILL']);
      expect(byNumber).not.toHaveBeenCalled();
    } finally {
      byNumber.mockRestore();
      child.kill('SIGKILL');
      await exited;
      rmdirSync(join(path, 'threads'));
      rmdirSync(path);
    }
  },
);
