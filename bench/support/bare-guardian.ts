import { spawn } from 'node:child_process';

/**
 * The least that ends the trees of a dead program: a process that knows their groups and, at the end of its channel, kills each
 * with one `kill(2)`. The worker-loss benchmark starts it, and sends the commands to run over IPC.
 */
const groups: number[] = [];

process.on('message', (commands: string[][]) => {
  for (const [file = '', ...args] of commands) {
    const { pid } = spawn(file, args, { detached: true, stdio: 'ignore' });
    if (pid !== undefined) groups.push(pid);
  }
});
process.on('disconnect', () => {
  for (const group of groups) process.kill(-group, 'SIGKILL');
  process.exit();
});
process.send?.('ready');
