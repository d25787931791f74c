/** One line of a log: its subject, then a sentence. */
export interface LogLine {
  (facts: object, message?: string): void;
  (message: string): void;
}

/** A service's log. A pino logger is one, and so is any object with these five methods. */
export interface ServiceLog {
  readonly debug: LogLine;
  readonly info: LogLine;
  readonly warn: LogLine;
  readonly error: LogLine;
  readonly fatal: LogLine;
}

const nothing = (): void => undefined;

/** Logs nothing: the default of an embedded Belay. */
export const SILENT: ServiceLog = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  fatal: nothing,
};

/** The same log, with its own faults caught: a host's logger may throw. */
export function calmly(log: ServiceLog): ServiceLog {
  const calm = (level: keyof ServiceLog): LogLine => {
    return (...line: [facts: object | string, message?: string]): void => {
      try {
        (log[level] as (...all: unknown[]) => void)(...line);
      } catch {
        // There is nowhere left to report it.
      }
    };
  };
  return {
    debug: calm('debug'),
    info: calm('info'),
    warn: calm('warn'),
    error: calm('error'),
    fatal: calm('fatal'),
  };
}
