import { Argument, type Command } from 'commander';
import type { Bind } from './action';

/** Prints what a shell needs to complete commands and options. It asks no orchestrator, so it costs no time at each key. */
export function addCompletion(program: Command, bind: Bind): void {
  program
    .command('completion')
    .description('print the completion of a shell; for bash: source <(belay completion bash)')
    .addArgument(new Argument('<shell>', 'the shell').choices(['bash']))
    .action(bind(async (session) => session.printRaw(bashCompletion(program))));
}

/** A script for bash that completes the names and options of this program. Files are completed where it knows no words. */
export function bashCompletion(program: Command): string {
  const subcommands = program.commands.flatMap((command) =>
    command.commands.map((sub) => branch(`'${command.name()} ${sub.name()}'`, [], sub)),
  );
  const commands = program.commands.map((command) =>
    branch(`'${command.name()} '*`, command.commands, command),
  );
  return `# Completion of belay for bash: source <(belay completion bash)
_belay() {
  local current="\${COMP_WORDS[COMP_CWORD]}" word first= second= names= options=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in
      -*) ;;
      *) if [ -z "$first" ]; then first="$word"; elif [ -z "$second" ]; then second="$word"; fi ;;
    esac
  done
  case "$first $second" in
${[...subcommands, ...commands, branch("' '", program.commands, undefined)].join('\n')}
  esac
  case "$current" in
    -*) names="$options ${optionsOf(program).join(' ')}" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$names" -- "$current")
}
complete -o default -F _belay belay`;
}

const optionsOf = (command: Command): string[] => command.options.flatMap(({ long }) => long ?? []);

/** The names and options that may follow the words of `pattern`. The first pattern that fits counts. */
function branch(pattern: string, names: readonly Command[], command: Command | undefined): string {
  const options = command === undefined ? [] : optionsOf(command);
  return `    ${pattern}) names='${names.map((one) => one.name()).join(' ')}' options='${options.join(' ')}' ;;`;
}
