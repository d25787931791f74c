import { chmodSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { folderProblem } from '#libs/client';
import { BelayError, isBelayError, validateLocalKill } from '#libs/contracts';
import type { BreakGlass } from '#libs/killswitch';

const LONGEST_REQUEST = 64 * 1024;
/** The line must arrive within this, and the answer must be read; the request itself may take longer. Milliseconds. */
const REQUEST_MS = 5_000;
/** Beyond these, a connection without a request makes room. A kill under way never does. */
const MOST_CONNECTIONS = 64;
/** A proper client sends its line within this after connecting. Milliseconds. */
const FRESH_MS = 200;

type Killer = Pick<BreakGlass, 'kill'>;

/**
 * One JSON line in, one JSON line out, on a socket that only this user can open: `belay kill --local` works with the state
 * server and every orchestrator down. A user who can open the socket could kill the processes anyway. However many connections
 * are open and silent, a new one with a request is served.
 *
 * @throws BelayError INVALID_SETTINGS when another user could put a socket in its place
 */
export async function startBreakGlassServer(
  path: string,
  breakGlass: Killer,
  { requestMs = REQUEST_MS, most = MOST_CONNECTIONS } = {},
): Promise<Server> {
  makeFolder(dirname(path));
  if (existsSync(path)) rmSync(path);
  const open = new Set<Socket>();
  /** Connections without a request in progress, oldest first, with the time of each. */
  const idle = new Map<Socket, number>();
  const makeRoom = (): void => {
    for (const [socket, since] of idle) {
      if (open.size <= most || performance.now() - since < FRESH_MS) return;
      open.delete(socket);
      socket.destroy();
    }
  };
  const server = createServer((socket) => {
    open.add(socket);
    idle.set(socket, performance.now());
    socket.once('close', () => {
      open.delete(socket);
      idle.delete(socket);
    });
    serve(socket, breakGlass, requestMs, idle);
    if (open.size <= most) return;
    makeRoom();
    // A connection this young may still be about to send its request.
    setTimeout(makeRoom, FRESH_MS + 1).unref();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return server;
}

function makeFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const problem = folderProblem(folder);
  if (problem === undefined) return;
  throw new BelayError(
    'INVALID_SETTINGS',
    `The socket for "belay kill --local" cannot be made in ${folder}: ${problem}. Make it a directory that only this user can write to (chown, chmod 700), or set BELAY_DATA_DIR to another directory with a short path.`,
    { details: { folder } },
  );
}

function serve(socket: Socket, breakGlass: Killer, requestMs: number, idle: Map<Socket, number>): void {
  let text = '';
  let asked = false;
  const drop = (): void => void socket.destroy();
  // From the beginning, not from the last byte: a line that arrives a byte at a time is late too.
  let late = setTimeout(drop, requestMs);
  socket.once('close', () => clearTimeout(late));
  socket.setEncoding('utf8');
  socket.on('error', () => undefined);
  socket.on('data', (chunk: string) => {
    if (asked) return;
    text += chunk;
    if (text.length > LONGEST_REQUEST) return drop();
    const end = text.indexOf('\n');
    if (end === -1) return;
    asked = true;
    clearTimeout(late);
    idle.delete(socket);
    void reply(text.slice(0, end));
  });
  async function reply(line: string): Promise<void> {
    const said = await answer(line, breakGlass);
    if (socket.destroyed) return;
    idle.set(socket, performance.now());
    // A client that does not read the answer or does not hang up is cut off.
    late = setTimeout(drop, requestMs);
    socket.end(`${JSON.stringify(said)}\n`, drop);
  }
}

async function answer(line: string, breakGlass: Killer): Promise<object> {
  try {
    return await breakGlass.kill(validateLocalKill(JSON.parse(line)));
  } catch (error) {
    if (isBelayError(error)) return { code: error.code, detail: error.message, problems: error.problems };
    return { code: 'INVALID_JSON', detail: 'The request is not one line of JSON.', problems: [] };
  }
}
