import { KINDS, type Kind } from './kinds';

/** The suite's options. */
export interface Asked {
  readonly kinds: readonly Kind[];
  readonly rounds: number;
  readonly json: boolean;
  /** Agents have users of their own. */
  readonly user: boolean;
}

const ROUNDS = 100;
const QUICK_ROUNDS = 10;
const MOST_ROUNDS = 100_000;
const OPTIONS = '--rounds N, --quick, --user, --json';

/**
 * Reads `[KIND …] [--rounds N] [--quick] [--user] [--json]`. @returns a sentence that says what is wrong with it, or the
 * options.
 */
export function readArguments(args: readonly string[]): Asked | string {
  const names = new Set<string>();
  let rounds = ROUNDS;
  let json = false;
  let user = false;
  const rest = args.flatMap((arg) => (arg.startsWith('--rounds=') ? ['--rounds', arg.slice(9)] : [arg]));
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--json') json = true;
    else if (arg === '--user') user = true;
    else if (arg === '--quick') rounds = QUICK_ROUNDS;
    else if (arg === '--rounds') {
      const value = rest.shift() ?? '';
      rounds = /^\d{1,6}$/.test(value) ? Number(value) : 0;
      if (rounds < 1 || rounds > MOST_ROUNDS)
        return `--rounds takes a whole number from 1 to ${MOST_ROUNDS}, not ${JSON.stringify(value)}.`;
    } else if (arg.startsWith('-')) return `No option ${arg}. There are: ${OPTIONS}.`;
    else names.add(arg);
  }
  const known = KINDS.map(({ name }) => name);
  const unknown = [...names].filter((name) => !known.includes(name));
  if (unknown.length > 0) return `No kind ${unknown.join(', ')}. There are: ${known.join(', ')}.`;
  return { kinds: KINDS.filter(({ name }) => names.size === 0 || names.has(name)), rounds, json, user };
}
