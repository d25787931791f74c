import { readFileSync, writeSync } from 'node:fs';
import { COOKIE_VARIABLE, type Assignment } from '#libs/contracts';

/** The exit code of an attempt that came too late to begin. */
const LATE = 126;

interface AttemptInput {
  /** The name of the handler. */
  readonly name: string;
  readonly text: string;
}

/** The parts of the process that only its program touches. `stdin` becomes a stream when it is read. */
interface OwnProcess {
  stdin(): AsyncIterable<unknown>;
  exit(code: number): never;
}

/**
 * The input of this process's attempt: all of stdin. A process that was started ahead has no handler's name yet. It reports
 * that it waits, and the first line brings the name and the variables of the attempt. Without a line the process ends.
 */
export async function attemptInput(known: string | undefined, own: OwnProcess): Promise<AttemptInput> {
  if (known !== undefined) return { name: known, text: readFileSync(0, 'utf8') };
  say('ready');
  const pieces: Buffer[] = [];
  for await (const piece of own.stdin()) pieces.push(piece as Buffer);
  const whole = Buffer.concat(pieces).toString('utf8');
  const end = whole.indexOf('\n');
  // The worker ended, or gave this process up.
  if (end < 0) return own.exit(0);
  const { args, env, deadline } = JSON.parse(whole.slice(0, end)) as Assignment;
  if (deadline !== undefined && ticksSinceBoot() > deadline) {
    say('late');
    return own.exit(LATE);
  }
  say('begun');
  Object.assign(process.env, env);
  return { name: args[0] ?? '', text: whole.slice(end + 1) };
}

function say(word: 'ready' | 'begun' | 'late'): void {
  writeSync(3, `${process.env[COOKIE_VARIABLE] ?? ''} ${word}\n`);
}

/** The clock of an attempt's deadline. Where it cannot be read there is no deadline, as for every start. */
function ticksSinceBoot(): number {
  try {
    return Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]?.replace('.', ''));
  } catch {
    return 0;
  }
}
