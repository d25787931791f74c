import type { GlobalOptions } from './find-connection';

/** Every command, so that a sentence which only begins with "Belay" is left alone. */
export const COMMANDS = [
  'answer',
  'armed',
  'ask',
  'asks',
  'audit',
  'close',
  'completion',
  'delete',
  'doctor',
  'drill',
  'events',
  'freeze',
  'get',
  'kill',
  'latch',
  'latches',
  'limits',
  'logs',
  'mcp',
  'orchestrator',
  'pause',
  'ps',
  'quarantine',
  'queues',
  'receipt',
  'release',
  'resume',
  'retry',
  'run',
  'signal',
  'start',
  'stop',
  'thaw',
  'token',
  'up',
  'watch',
  'webhooks',
  'worker',
  'workers',
] as const;

/** These use no address: they start Belay's processes, or speak to them on this machine. */
const LOCAL = new Set(['completion', 'orchestrator', 'up', 'worker', 'kill --local']);
const HINT = new RegExp(`\\bbelay (kill --local|${COMMANDS.join('|')})(?![\\w-])`, 'g');

/** Adds the flags that select this Belay to every command that a text names, so that the commands ask the same one. */
export function keepFlags(text: string, { dataDir, url, tokenFile }: GlobalOptions): string {
  if (dataDir === undefined && url === undefined && tokenFile === undefined) return text;
  const flag = (name: string, value: string | undefined): string =>
    value === undefined ? '' : ` ${name} ${quoted(value)}`;
  const files = flag('--data-dir', dataDir);
  const whole = `${files}${flag('--url', url)}${flag('--token-file', tokenFile)}`;
  return text.replaceAll(HINT, (_, command: string) => {
    return `belay${LOCAL.has(command) ? files : whole} ${command}`;
  });
}

/** Quotes a value as one word of a shell. */
function quoted(value: string): string {
  return /^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", String.raw`'\''`)}'`;
}
