import { styleText } from 'node:util';

type Format = Parameters<typeof styleText>[0];

/** Colours by meaning; each function returns its text unchanged where colours are off. */
export interface Style {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly strong: (text: string) => string;
  /** A state or outcome, in the colour of its meaning. */
  readonly state: (text: string) => string;
}

/** Whether a stream gets colours: it is a terminal that has them, and nobody refused them (NO_COLOR). */
export function wantsColour(
  stream: { readonly isTTY: boolean },
  env: NodeJS.ProcessEnv,
  flag: boolean,
): boolean {
  if (!flag || (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb') return false;
  return stream.isTTY;
}

export function createStyle(enabled: boolean): Style {
  const paint =
    (format: Format) =>
    (text: string): string =>
      enabled ? styleText(format, text, { validateStream: false }) : text;
  const good = paint('green');
  const bad = paint('red');
  const warn = paint('yellow');
  const dim = paint('dim');
  const byState: Readonly<Record<string, (text: string) => string>> = {
    completed: good,
    killed: good,
    thawed: good,
    ok: good,
    complete: good,
    passed: good,
    armed: good,
    running: paint('cyan'),
    failed: bad,
    fail: bad,
    unconfirmed: bad,
    incomplete: bad,
    'not armed': bad,
    paused: warn,
    frozen: warn,
    stopped: warn,
    stopping: warn,
    draining: warn,
    warn,
    cancelled: warn,
    pending: dim,
    skipped: dim,
  };
  return {
    good,
    bad,
    warn,
    dim,
    strong: paint('bold'),
    state: (text) => byState[text.trim()]?.(text) ?? text,
  };
}
