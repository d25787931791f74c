import type { Command } from 'commander';
import type { WorkerRecord } from '#libs/contracts';
import type { Bind } from './action';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { formatDuration } from '../text/format';
import { renderTable } from '../text/table';

export function addWorkers(program: Command, bind: Bind): void {
  program
    .command('workers')
    .description('list workers, their leases and what they run')
    .action(
      bind(async (session) => {
        const { items } = await session.client.workers();
        if (session.isJson) return session.json({ items });
        if (items.length === 0) return session.note('No workers. Start one with: belay up, or belay worker');
        session.print(renderWorkers(items, session.out, session.width, Date.now()));
      }),
    );
}

/** One row for each worker. */
export function renderWorkers(
  workers: readonly WorkerRecord[],
  style: Style,
  width: number,
  now: number,
): string {
  return renderTable({
    head: ['WORKER', 'STATE', 'HOST', 'PID', 'RUNNING', 'CONTAINMENT', 'ISOLATION', 'LEASE', 'POOLS'],
    rows: workers.map((worker) => [
      worker.id,
      worker.state,
      cleanText(worker.host),
      String(worker.pid),
      `${worker.running}/${worker.concurrency}`,
      worker.containment,
      worker.isolation,
      describeLease(worker, now),
      worker.pools.join(','),
    ]),
    width,
    flexible: 2,
    paint: (cell, column) => (column === 1 ? style.state(cell) : cell),
  });
}

/** `9.8 s left`, `run out`, or nothing for a worker that has stopped. */
export function describeLease(worker: WorkerRecord, now: number): string {
  if (worker.state === 'stopped' || worker.leaseExpiresAt === undefined) return '-';
  const leftMs = worker.leaseExpiresAt - now;
  return leftMs > 0 ? `${formatDuration(leftMs)} left` : 'expired';
}
