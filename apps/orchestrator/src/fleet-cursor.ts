import { BelayError } from '#libs/contracts';
import type { FastifyRequest } from 'fastify';

const PREFIX = 'all.';
const CURSOR = /^all\.([\w-]{2,6000})$/;

/**
 * The position in the events of all executions: the id of the last change of each shard. Clients get it as one opaque text.
 * It has the latest time, then for each shard the distance of its time from that one, and its counter, each as a number of
 * as few bytes as it needs.
 */
export function encodeCursor(positions: readonly string[]): string {
  const pairs = positions.map((id) => id.split('-').map(Number) as [number, number]);
  const latest = Math.max(...pairs.map(([ms]) => ms));
  const bytes: number[] = [];
  for (const value of [pairs.length, latest, ...pairs.flatMap(([ms, n]) => [latest - ms, n])])
    writeNumber(bytes, value);
  return PREFIX + Buffer.from(bytes).toString('base64url');
}

/** Undefined for a text that is no cursor of a fleet with so many shards. */
export function decodeCursor(text: string, shards: number): string[] | undefined {
  const body = CURSOR.exec(text)?.[1];
  if (body === undefined) return undefined;
  const values = readNumbers(Buffer.from(body, 'base64url'));
  const [count, latest, ...rest] = values ?? [];
  if (count !== shards || latest === undefined || rest.length !== 2 * shards) return undefined;
  const positions = Array.from(
    { length: shards },
    (_, i) => `${latest - (rest[2 * i] as number)}-${rest[2 * i + 1]}`,
  );
  // A text may be decoded in several ways, and a time may be negative: only a text that this server could send is taken.
  return encodeCursor(positions) === text && !positions.some((id) => id.startsWith('-'))
    ? positions
    : undefined;
}

/** The position after which a returning client goes on. @throws BelayError INVALID_REQUEST */
export function readCursor(
  { headers }: Pick<FastifyRequest, 'headers'>,
  shards: number,
): string[] | undefined {
  const header = headers['last-event-id'];
  const text = Array.isArray(header) ? header[0] : header;
  if (text === undefined) return undefined;
  const positions = decodeCursor(text, shards);
  if (positions !== undefined) return positions;
  throw new BelayError('INVALID_REQUEST', 'The Last-Event-ID header is not valid.', {
    problems: [
      {
        path: 'Last-Event-ID',
        code: 'PATTERN',
        message: 'must be an id that this stream has sent. Leave it out to begin with the next event.',
      },
    ],
  });
}

/** Seven bits a byte, the lowest first; the eighth bit says that another byte follows. */
function writeNumber(bytes: number[], value: number): void {
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) + 0x80);
  bytes.push(rest);
}

function readNumbers(bytes: Uint8Array): number[] | undefined {
  const values: number[] = [];
  let value = 0;
  let scale = 1;
  for (const byte of bytes) {
    value += (byte % 0x80) * scale;
    if (!Number.isSafeInteger(value)) return undefined;
    scale *= 0x80;
    if (byte >= 0x80) continue;
    values.push(value);
    value = 0;
    scale = 1;
  }
  return scale === 1 ? values : undefined;
}
