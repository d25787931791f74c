import { pino, type Logger } from 'pino';
import { LogWriter } from './log-writer';

/** The log of a program: JSON lines on stdout. The program goes on whatever happens to stdout. */
export function processLog(level: string, base: object): Logger {
  const writer = new LogWriter(process.stdout.fd);
  const log = pino({ level, base }, writer);
  writer.onDropped = (dropped, code) =>
    log.warn({ dropped, code }, `${dropped} log lines are missing here: they could not be written (${code})`);
  process.once('exit', () => writer.flushSync());
  return log;
}
