import { execFileSync } from 'node:child_process';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const aside = (dataDir: string): string => join(dataDir, 'agents-aside');

/** Fills the disk of the logs: with a small file system of its own in their place where root may mount one. */
export function fillLogs(dataDir: string): void {
  const logs = join(dataDir, 'agents');
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'belay-faults', logs], { stdio: 'ignore' });
    writeFileSync(join(logs, 'full'), Buffer.alloc(4_096));
  } catch {
    // Not allowed here: a plain file in the place of the directory makes every open fail as well, also for root.
    if (existsSync(aside(dataDir))) return;
    renameSync(logs, aside(dataDir));
    writeFileSync(logs, '');
  }
}

/** Undoes both ways of filling them. */
export function freeLogs(dataDir: string): void {
  const logs = join(dataDir, 'agents');
  if (existsSync(aside(dataDir))) {
    rmSync(logs, { recursive: true, force: true });
    renameSync(aside(dataDir), logs);
  } else if (existsSync(join(logs, 'full')))
    // Lazily, since a worker may have a log open in it.
    execFileSync('umount', ['--lazy', logs], { stdio: 'ignore' });
}
