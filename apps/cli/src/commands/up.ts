import type { Command } from 'commander';
import { wholeNumber } from '../arguments/parse-values';
import { runUp, type UpOptions } from '../up/run-up';
import type { Bind } from './action';

export function addUp(program: Command, bind: Bind): void {
  program
    .command('up')
    .description('start everything on this machine: state server, orchestrator, workers; Ctrl-C drains')
    .option('--workers <n>', 'workers to start (BELAY_WORKERS, or 2)', wholeNumber(0, 256))
    .option(
      '--port <n>',
      'port of the API; 0 takes any free one (BELAY_HTTP_PORT, or 7070)',
      wholeNumber(0, 65_535),
    )
    .option('--first-run', 'submit examples/first-run.yaml and show it')
    .action(bind(async (session, options: UpOptions) => await runUp(session, options)));
}
