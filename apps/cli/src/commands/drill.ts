import type { Command } from 'commander';
import { BelayError, type DrillStatus } from '#libs/contracts';
import { requireId } from '../arguments/resolve-id';
import { withLatency } from '../drill/drill-latency';
import { renderDrills, renderStatuses } from '../drill/render-drill';
import { EXIT, type ExitCode } from '../exit-codes';
import type { Session } from '../session/session';
import type { Bind } from './action';
import { waitForProof } from './wait-for-proof';

interface DrillOptions {
  readonly worker?: string;
  readonly last?: boolean;
  readonly hostile?: boolean;
}

const NOBODY = 'No worker runs. Start one with: belay up, or belay worker';

export function addDrill(program: Command, bind: Bind): void {
  program
    .command('drill')
    .description('test the kill: start trees that resist on every worker, kill them, show the proof')
    .option('--worker <id>', 'only this worker')
    .option('--hostile', 'an agent that attacks Belay itself, in place of trees that resist')
    .option('--last', 'only show the last result of each worker; nothing is started')
    .action(
      bind(async (session, { worker, last, hostile = false }: DrillOptions) => {
        const workerId = worker === undefined ? undefined : requireId(worker, 'worker');
        return last === true
          ? await showLast(session, workerId, hostile)
          : await drillAndShow(session, workerId, hostile);
      }),
    );
}

async function drillAndShow(
  session: Session,
  workerId: string | undefined,
  hostile: boolean,
): Promise<ExitCode> {
  const waited = await waitForProof(
    session,
    `drilling ${workerId ?? 'every worker'}`,
    async ({ signal }) => await session.client.drill(workerId, { signal, hostile }),
  );
  if ('unanswered' in waited) return EXIT.unconfirmed;
  if ('interrupted' in waited) {
    session.note('The drill may still run, or not have begun. Look with: belay drill --last');
    return EXIT.interrupted;
  }
  const { answer: report } = waited;
  const items = await Promise.all(report.items.map(async (item) => await withLatency(session.client, item)));
  if (session.isJson) session.json({ passed: report.passed, items });
  else if (items.length === 0) session.note(NOBODY);
  else for (const line of renderDrills(items, session.out)) session.print(line);
  return report.passed ? EXIT.ok : EXIT.failed;
}

async function showLast(
  session: Session,
  workerId: string | undefined,
  isHostile: boolean,
): Promise<ExitCode> {
  const { items: all } = await session.client.drills();
  const chosen = workerId === undefined ? all : all.filter((item) => item.workerId === workerId);
  if (workerId !== undefined && chosen.length === 0)
    throw new BelayError('NOT_FOUND', `${workerId} is not a running worker. List them with: belay workers`);
  const items = await Promise.all(
    chosen.map(async ({ last, hostile, ...rest }): Promise<DrillStatus> => {
      // A schedule runs plain drills, so a hostile one is never overdue.
      if (isHostile) return { ...rest, overdue: false, ...(hostile === undefined ? {} : { last: hostile }) };
      return last === undefined ? rest : { ...rest, last: await withLatency(session.client, last) };
    }),
  );
  if (session.isJson) session.json({ items });
  else if (items.length === 0) session.note(NOBODY);
  else for (const line of renderStatuses(items, session.out, isHostile)) session.print(line);
  return items.length > 0 && items.every(hasPassed) ? EXIT.ok : EXIT.failed;
}

function hasPassed({ last, overdue }: DrillStatus): boolean {
  return last?.passed === true && !overdue;
}
