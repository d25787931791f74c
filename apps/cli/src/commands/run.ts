import { Option, type Command } from 'commander';
import { EXECUTION_MACHINE, isEnded } from '#libs/contracts';
import { collectLabel, positiveNumber } from '../arguments/parse-values';
import { findWaiting } from '../execution/find-waiting';
import { describeWaiting } from '../execution/waiting';
import type { ExitCode } from '../exit-codes';
import { watchExecution } from '../progress/watch-execution';
import { describeReport } from '../run/describe-report';
import { readSpec } from '../run/read-spec';
import { loadSpecReaders } from '../run/spec-readers';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { count } from '../text/format';
import type { Bind } from './action';

interface RunOptions {
  readonly watch?: boolean;
  readonly detach?: boolean;
  readonly timeScale?: number;
  readonly label?: Readonly<Record<string, string>>;
  readonly idempotencyKey?: string;
  /** False with `--no-start`. */
  readonly start: boolean;
  /** False with `--no-queue`. */
  readonly queue: boolean;
}

export function addRun(program: Command, bind: Bind): void {
  program
    .command('run')
    .description('submit an execution; with --watch follow it to its end')
    .argument('<file>', 'spec in YAML or JSON, or WfFormat 1.5 (WfCommons), plain or .gz; - for stdin')
    .option('--watch', 'show its progress; the exit code is that of its end')
    .addOption(new Option('--detach', 'return when it is accepted (the default)').conflicts('watch'))
    .option('--time-scale <x>', 'WfFormat: run each task this many times as long as measured', positiveNumber)
    .option('--label <k=v>', 'add a label; may be repeated', collectLabel)
    .option('--idempotency-key <key>', 'the same key and the same spec are the same execution')
    .addOption(new Option('--no-start', 'leave it idle until `belay start`').conflicts('watch'))
    .option('--no-queue', 'refuse it if a limit keeps it from starting now')
    .action(bind(async (session, file: string, options: RunOptions) => await submit(session, file, options)));
}

async function submit(session: Session, file: string, options: RunOptions): Promise<ExitCode | void> {
  const { spec, report } = await readSpec(
    session.process,
    file,
    {
      ...(options.timeScale === undefined ? {} : { timeScale: options.timeScale }),
      ...(options.label === undefined ? {} : { labels: options.label }),
      ...(options.idempotencyKey === undefined ? {} : { idempotencyKey: options.idempotencyKey }),
    },
    await loadSpecReaders(),
  );
  for (const line of report === undefined ? [] : describeReport(report)) session.note(line);
  const { execution, replayed } = await session.client.createExecution(spec, {
    start: options.start,
    queue: options.queue,
  });
  const { id, name, nodes, state } = execution;
  session.print(`${id}  ${cleanText(name)}, ${count(nodes.total, 'node')}, ${session.out.state(state)}`);
  if (replayed) session.note('It existed already: the idempotency key and the spec are the same.');
  if (options.watch === true) return await watchExecution(session, execution);
  if (session.isJson) return session.json(execution);
  if (isEnded(EXECUTION_MACHINE, state)) return session.note(`It has ended. Look at it: belay get ${id}`);
  // Only a hint: the execution is accepted even if this look fails.
  const waiting = await findWaiting(session.client, [execution]).catch(() => undefined);
  for (const line of describeWaiting(waiting?.get(id) ?? [])) session.note(line);
  session.note(options.start ? `Follow it: belay watch ${id}` : `Start it:  belay start ${id}`);
  session.note(`Stop it:   belay stop ${id}`);
}
