import type { Command } from 'commander';
import type { ArmedAnswer, ArmedReport } from '#libs/contracts';
import { EXIT, type ExitCode } from '../exit-codes';
import type { Session } from '../session/session';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count, formatDuration } from '../text/format';
import type { Bind } from './action';

const NOBODY = 'No worker runs. Start one with: belay up, or belay worker';

export function addArmed(program: Command, bind: Bind): void {
  program
    .command('armed')
    .description('ask every worker, through the channel of the kill, whether it could stop now')
    .action(bind(async (session) => await askAndShow(session)));
}

async function askAndShow(session: Session): Promise<ExitCode> {
  const report = await session.client.armed();
  if (session.isJson) session.json(report);
  else if (report.workers.length === 0) session.note(NOBODY);
  else for (const line of renderArmed(report, session.out)) session.print(line);
  return report.armed ? EXIT.ok : EXIT.failed;
}

/** One line for each worker, with advice below it where the worker is not armed, then the total. */
export function renderArmed({ workers }: ArmedReport, style: Style): string[] {
  const armed = workers.filter((worker) => worker.armed).length;
  return [
    ...workers.flatMap((answer) => renderAnswer(answer, style)),
    `${count(workers.length, 'worker')}: ${armed} armed, ${workers.length - armed} not`,
  ];
}

function renderAnswer(answer: ArmedAnswer, style: Style): string[] {
  const { workerId, armed, detail } = answer;
  const word = style.state((armed ? 'armed' : 'not armed').padEnd(10));
  const said = [...(detail === undefined ? [] : [cleanText(detail)]), ...describeGuard(answer)].join(', ');
  const head = `${word}  ${workerId}  ${said}`;
  return armed ? [head] : [head, `${' '.repeat(12)}→ ${adviceFor(answer)}`];
}

/** `answered after 12 ms, cgroup, 3 agents`; empty for a worker that did not answer. */
function describeGuard({ afterMs, containment, isolation, running }: ArmedAnswer): string[] {
  return [
    ...(afterMs === undefined ? [] : [`answered after ${formatDuration(afterMs)}`]),
    ...(containment === undefined ? [] : [containment]),
    ...(isolation === undefined ? [] : [isolation]),
    ...(running === undefined ? [] : [count(running, 'agent')]),
  ];
}

/** Advice about a worker that is not armed. */
export function adviceFor({ workerId, guardian }: ArmedAnswer): string {
  return guardian === false
    ? 'its worker starts another guardian: ask again, and restart the worker if this stays'
    : `check its machine; to end its agents there, without the server: belay kill --local --worker ${workerId}`;
}
