import { Command, CommanderError, Option } from 'commander';
import type { Bind } from './commands/action';
import { addArmed } from './commands/armed';
import { addAnswer } from './commands/answer';
import { addAsk } from './commands/ask';
import { addAsks } from './commands/asks';
import { addAudit } from './commands/audit';
import { addClose } from './commands/close';
import { addCompletion } from './commands/completion';
import { addDelete } from './commands/delete';
import { addDoctor } from './commands/doctor';
import { addDrill } from './commands/drill';
import { addEvents } from './commands/events';
import { addFreeze } from './commands/freeze';
import { addGet } from './commands/get';
import { addKill } from './commands/kill';
import { addLatch } from './commands/latch';
import { addLatches } from './commands/latches';
import { addLimits } from './commands/limits';
import { addLogs } from './commands/logs';
import { addMcp } from './commands/mcp';
import { addPause } from './commands/pause';
import { addProcesses } from './commands/processes';
import { addQuarantine } from './commands/quarantine';
import { addPs } from './commands/ps';
import { addQueues } from './commands/queues';
import { addReceipt } from './commands/receipt';
import { addRelease } from './commands/release';
import { addRetry } from './commands/retry';
import { addRun } from './commands/run';
import { addSignal } from './commands/signal';
import { addStart } from './commands/start';
import { addStop } from './commands/stop';
import { addToken } from './commands/token';
import { addUp } from './commands/up';
import { addWatch } from './commands/watch';
import { addWebhooks } from './commands/webhooks';
import { addWorkers } from './commands/workers';
import { EXIT, exitCodeOfError, UsageError, type ExitCode } from './exit-codes';
import { reportError } from './report-error';
import type { CliProcess } from './session/cli-process';
import type { GlobalOptions } from './session/find-connection';
import { openSession, type Session } from './session/session';
import { packageVersion } from './up/package-root';

const ADDERS = [
  addUp,
  addRun,
  addPs,
  addGet,
  addWatch,
  addEvents,
  addStart,
  addSignal,
  addLogs,
  addPause,
  addRetry,
  addStop,
  addDelete,
  addKill,
  addFreeze,
  addLatch,
  addLatches,
  addQueues,
  addLimits,
  addWebhooks,
  addAsks,
  addAnswer,
  addAsk,
  addMcp,
  addQuarantine,
  addRelease,
  addReceipt,
  addClose,
  addAudit,
  addToken,
  addArmed,
  addDrill,
  addWorkers,
  addDoctor,
  addProcesses,
  addCompletion,
];

/** The whole command tree. */
export function buildProgram(cli: CliProcess, bind: Bind, isJson = false): Command {
  const program = new Command('belay')
    .description('Runs fleets of agents as executions on many workers, and stops any of them with proof.')
    .version(packageVersion(), '--version', 'print the version')
    .addOption(
      new Option(
        '--url <url>',
        'the orchestrator, or several by commas (BELAY_URL, that of `belay up`, or port 7070)',
      ),
    )
    .option('--token-file <path>', 'file with the token (BELAY_TOKEN, or `token` in the data dir)')
    .option('--data-dir <path>', 'where Belay keeps its files (BELAY_DATA_DIR, or .belay)')
    .option('--json', 'one JSON document on stdout; one object a line for streams')
    .option('--no-color', 'no colours (as NO_COLOR)')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => cli.stdout.write(text),
      // With --json an error is one object, which is made of the error itself.
      writeErr: (text) => void (isJson || cli.stderr.write(text.replace(/^error: /, 'belay: '))),
      getOutHelpWidth: () => cli.stdout.columns,
      getErrHelpWidth: () => cli.stderr.columns,
    })
    .exitOverride();
  for (const add of ADDERS) add(program, bind);
  // Settings such as exitOverride are inherited only through `.command`, which the adders use.
  showUsageAfterErrors(program, 'belay');
  return program;
}

/** After wrong usage, the line below the error shows the usage of that command, and the command for more help. */
function showUsageAfterErrors(command: Command, name: string): void {
  command.showHelpAfterError(`Usage: ${name} ${command.usage()}. More: ${name} --help`);
  for (const sub of command.commands) showUsageAfterErrors(sub, `${name} ${sub.name()}`);
}

/** Runs one command line (without `node` and the script). Resolves with its exit code. */
export async function runCli(args: readonly string[], cli: CliProcess): Promise<number> {
  let session: Session | undefined;
  let exitCode: ExitCode = EXIT.ok;
  const isJson = args.includes('--json');
  const bind: Bind =
    (action) =>
    async (...raw) => {
      // Commander passes arguments, options and, last, the command itself.
      const command = raw.at(-1) as Command;
      session = openSession(cli, command.optsWithGlobals<GlobalOptions>());
      exitCode = (await action(session, ...(raw.slice(0, -1) as never))) ?? EXIT.ok;
    };
  try {
    await buildProgram(cli, bind, isJson).parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.ok;
      // In text mode the parser has already reported its own errors.
      if (isJson) reportError(cli, new UsageError(usageOf(error)), { isJson });
      return EXIT.usage;
    }
    const { options } = session ?? {};
    reportError(cli, error, {
      isJson,
      ...(options === undefined ? {} : { options }),
      connection: () => session?.connection,
    });
    return exitCodeOfError(error);
  }
}

/** The parser's own sentence. For a line that names no command it has none. */
function usageOf({ code, message }: CommanderError): string {
  if (code === 'commander.help') return 'No command was named. List them with: belay --help';
  return message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ');
}
