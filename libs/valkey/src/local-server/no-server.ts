import { BelayError } from '#libs/contracts';
import { OLDEST_SERVER } from './server-version';

/** The other options where a server is to be kept. */
const OTHER_WAYS = [
  'start one anywhere and set BELAY_VALKEY_URL=redis://host:port',
  'start Docker, and Belay runs one in a container',
];

/** The error that ends a search without a result: each tried way as one line, then what to do. */
export function noServer(tried: readonly string[], otherWays: readonly string[] = OTHER_WAYS): BelayError {
  const install =
    process.platform === 'darwin' ? 'brew install valkey' : 'install valkey-server or redis-server';
  const lines = [
    `No Valkey or Redis server (${OLDEST_SERVER} or later) could be found or started. Tried:`,
    ...tried.map((line) => `  - ${line}`),
    'Do one of:',
    `  - ${install}, so that it is on PATH`,
    ...otherWays.map((line) => `  - ${line}`),
  ];
  return new BelayError('SERVER_UNREACHABLE', lines.join('\n'), { details: { tried } });
}
