import type { GlobalOptions } from './find-connection';

/** Every command, so that a sentence that only begins with the name of Belay is left alone. */
export const COMMANDS = [
  'answer',
  'armed',
  'ask',
  'asks',
  'audit',
  'close',
  'doctor',
  'drill',
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
  'worker',
  'workers',
] as const;

/** These ask no address: they start Belay's processes, or speak to them on this machine. */
const LOCAL = new Set(['orchestrator', 'up', 'worker', 'kill --local']);
const HINT = new RegExp(`\\bbelay (kill --local|${COMMANDS.join('|')})(?![\\w-])`, 'g');

/** Lays the flags that say which Belay is meant into every command a text names: what it hints at must ask the same one. */
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

/** As a shell takes it for one word. */
function quoted(value: string): string {
  return /^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", String.raw`'\''`)}'`;
}
