import { connect as connectNet, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** A server's address and login, parsed from a URL. */
export interface ServerAddress {
  readonly path?: string;
  readonly host?: string;
  readonly port?: number;
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
}

/** One answer: a text, or the error line of the server (`LOADING …`, `NOAUTH …`). */
export type Answer =
  { readonly ok: true; readonly text: string } | { readonly ok: false; readonly error: string };

/** Parses `redis://`, `rediss://`, `valkey://`, `valkeys://` and `unix://` URLs; undefined when it is none of them. */
export function parseServerUrl(url: string): ServerAddress | undefined {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    return undefined;
  }
  const login = {
    ...(parsed.username === '' ? {} : { username: decodeURIComponent(parsed.username) }),
    ...(parsed.password === '' ? {} : { password: decodeURIComponent(parsed.password) }),
  };
  if (parsed.protocol === 'unix:') {
    const [username, password] = [parsed.searchParams.get('username'), parsed.searchParams.get('password')];
    return parsed.pathname === ''
      ? undefined
      : {
          path: decodeURIComponent(parsed.pathname),
          tls: false,
          ...login,
          ...(username === null ? {} : { username }),
          ...(password === null ? {} : { password }),
        };
  }
  if (!/^(redis|valkey)s?:$/.test(parsed.protocol)) return undefined;
  const host = parsed.hostname.replace(/^\[|\]$/g, '');
  return {
    host: host === '' ? '127.0.0.1' : host,
    port: parsed.port === '' ? 6379 : Number(parsed.port),
    tls: /^(rediss|valkeys):$/.test(parsed.protocol),
    ...login,
  };
}

/** The URL of a socket's path. */
export function socketUrl(path: string): string {
  return `unix://${path.split('/').map(encodeURIComponent).join('/')}`;
}

/**
 * Sends commands over a connection of their own and resolves with one answer each. Rejects when nobody listens, or when the
 * answers do not come within `timeoutMs`. The launcher needs no more, so it needs no client library.
 */
export function askServer(
  address: ServerAddress,
  commands: readonly (readonly string[])[],
  timeoutMs: number,
): Promise<Answer[]> {
  const login = address.password === undefined ? [] : [loginCommand(address, address.password)];
  const all = [...login, ...commands];
  return new Promise((resolve, reject) => {
    const socket = open(address);
    const timer = setTimeout(() => finish(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    let received = Buffer.alloc(0);
    const finish = (error: Error | undefined, answers: Answer[] = []): void => {
      clearTimeout(timer);
      socket.destroy();
      if (error === undefined) resolve(answers.slice(login.length));
      else reject(error);
    };
    socket.on('error', (error) => finish(error));
    socket.on('close', () => finish(new Error('the server closed the connection')));
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const answers = parseAnswers(received);
      const refused = login.length === 0 ? undefined : answers[0];
      if (refused?.ok === false) finish(new Error(refused.error));
      else if (answers.length >= all.length) finish(undefined, answers);
    });
    socket.write(all.map(encode).join(''));
  });
}

function loginCommand(address: ServerAddress, password: string): string[] {
  return address.username === undefined ? ['AUTH', password] : ['AUTH', address.username, password];
}

function open(address: ServerAddress): Socket {
  if (address.path !== undefined) return connectNet({ path: address.path });
  const target = { host: address.host ?? '127.0.0.1', port: address.port ?? 6379 };
  if (!address.tls) return connectNet(target);
  // A certificate's server name is never an address (RFC 6066).
  return connectTls(isIP(target.host) === 0 ? { ...target, servername: target.host } : target);
}

function encode(command: readonly string[]): string {
  const parts = command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
  return `*${command.length}\r\n${parts.join('')}`;
}

/** Every complete answer in the bytes so far: simple strings, errors, integers and bulk strings. */
function parseAnswers(bytes: Buffer): Answer[] {
  const answers: Answer[] = [];
  let at = 0;
  for (;;) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return answers;
    const type = String.fromCharCode(bytes[at] ?? 0);
    const line = bytes.toString('utf8', at + 1, end);
    at = end + 2;
    if (type === '-') answers.push({ ok: false, error: line });
    else if (type !== '$' || line === '-1') answers.push({ ok: true, text: line });
    else {
      const length = Number(line);
      if (bytes.length < at + length + 2) return answers;
      answers.push({ ok: true, text: bytes.toString('utf8', at, at + length) });
      at += length + 2;
    }
  }
}
