import { BelayError } from '#libs/contracts';
import { OLDEST_SERVER } from './server-version';

/** Other ways to give Belay a server. */
const OTHER_WAYS = [
  'start one anywhere and set BELAY_VALKEY_URL=redis://host:port',
  'start Docker, and Belay runs one in a container',
];

/** The error when no way gave a server: each tried way as one line, then the next steps. */
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
