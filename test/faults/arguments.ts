import { PROFILES } from './plan';
import { GROUNDS, type GroundKind, type Profile } from './plan-types';

/** The campaign's options. */
export interface Asked {
  readonly seeds: number;
  readonly from: number;
  /** No seed begins after this. Infinite when not given. */
  readonly minutes: number;
  readonly profile: Profile;
  readonly ground: GroundKind;
  /** Seeds under way at a time. */
  readonly parallel: number;
  readonly json: boolean;
}

const SEEDS = 20;
const MOST = 1_000_000;
const OPTIONS =
  '--seeds N, --from S, --minutes M, --parallel P, --ground server|sentinel|cluster, --short, --json';

/** Reads the command line. @returns a sentence that says what is wrong with it, or the options. */
export function readArguments(args: readonly string[]): Asked | string {
  const numbers = new Map<string, number>();
  let [json, short, ground] = [false, false, 'server' as GroundKind];
  const rest = args.flatMap((arg) => (/^--\w+=/.test(arg) ? arg.split('=') : [arg]));
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--json') json = true;
    else if (arg === '--short') short = true;
    else if (arg === '--ground') {
      const value = rest.shift() ?? '';
      const found = GROUNDS.find((one) => one === value);
      if (found === undefined) return `${arg} is one of ${GROUNDS.join(', ')}, not ${JSON.stringify(value)}.`;
      ground = found;
    } else if (['--seeds', '--from', '--minutes', '--parallel'].includes(arg)) {
      const value = rest.shift() ?? '';
      const number = /^\d{1,7}$/.test(value) ? Number(value) : -1;
      if (number < (arg === '--from' ? 0 : 1) || number > MOST)
        return `${arg} takes a whole number up to ${MOST}, not ${JSON.stringify(value)}.`;
      numbers.set(arg, number);
    } else return `No option ${arg}. There are: ${OPTIONS}.`;
  }
  if (short && ground !== 'server') return '--short is for one server.';
  return {
    seeds: numbers.get('--seeds') ?? (numbers.has('--minutes') ? MOST : SEEDS),
    from: numbers.get('--from') ?? 1,
    minutes: numbers.get('--minutes') ?? Number.POSITIVE_INFINITY,
    profile: PROFILES[ground === 'server' ? (short ? 'short' : 'full') : 'many'],
    ground,
    parallel: numbers.get('--parallel') ?? 1,
    json,
  };
}
