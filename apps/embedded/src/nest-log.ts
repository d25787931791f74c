import { inspect } from 'node:util';
import { Logger } from '@nestjs/common';
import type { LogLine, ServiceLog } from '#libs/service';

/** A service's log that writes to the application's own: Nest's, with the context `Belay`. */
export function nestLog(): ServiceLog {
  const logger = new Logger('Belay');
  const line = (level: 'debug' | 'log' | 'warn' | 'error' | 'fatal'): LogLine => {
    return (facts: object | string, message?: string): void => logger[level](textOf(facts, message));
  };
  return {
    debug: line('debug'),
    info: line('log'),
    warn: line('warn'),
    error: line('error'),
    fatal: line('fatal'),
  };
}

function textOf(facts: object | string, message = ''): string {
  if (typeof facts === 'string') return facts;
  const { err, ...rest } = facts as { readonly err?: unknown };
  const parts = [message];
  if (err !== undefined) parts.push(inspect(err));
  if (Object.keys(rest).length > 0) parts.push(JSON.stringify(rest));
  return parts.filter((part) => part !== '').join(' ');
}
