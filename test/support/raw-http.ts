import { connect, type Socket } from 'node:net';

/** One TCP connection that speaks HTTP by hand: slowly, wrongly, or without ever reading. */
export interface RawConnection {
  readonly socket: Socket;
  /** All output of the server so far. */
  readonly said: () => string;
  /** Resolves when either side has ended the connection. */
  readonly closed: Promise<void>;
  send(text: string | Buffer): void;
  /** The status of the first answer; undefined while there is none. */
  status(): number | undefined;
}

/** Opens a connection to the server of that address. Errors of the socket count as its end. */
export function openRaw(url: string): RawConnection {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  let said = '';
  socket.on('data', (chunk: Buffer) => (said += chunk.toString('latin1')));
  // A server that cuts a client off may reset the connection.
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return {
    socket,
    said: () => said,
    closed,
    send: (text) => void (socket.destroyed || socket.write(text)),
    status: () => {
      const found = /^HTTP\/1\.1 (\d{3}) /.exec(said)?.[1];
      return found === undefined ? undefined : Number(found);
    },
  };
}

/** The head of a request, with an empty line at its end. */
export function head(
  method: string,
  path: string,
  headers: Readonly<Record<string, string | number>>,
): string {
  const lines = Object.entries({ host: 'test', ...headers }).map(([name, value]) => `${name}: ${value}`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`;
}
