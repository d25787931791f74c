import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below the port ranges of outgoing connections on Linux (32768 and up) and macOS (49152 and up): a port of those could be
 * taken between the look and the server's start.
 */
const FIRST = 20_000;
const LAST = 32_767;
const MOST_TRIES = 50;

/** A port of 127.0.0.1 that nobody listens on now, chosen at random so that two processes rarely choose the same. */
export async function freePort(choose = (): number => randomInt(FIRST, LAST + 1)): Promise<number> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const port = choose();
    if (await canListen(port)) return port;
  }
  throw new Error(`${MOST_TRIES} ports of 127.0.0.1 between ${FIRST} and ${LAST} were all taken.`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)));
  });
}
