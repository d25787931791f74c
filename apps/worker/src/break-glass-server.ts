import { chmodSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { isBelayError, validateLocalKill } from '#libs/contracts';
import type { BreakGlass } from '#libs/killswitch';

const LONGEST_REQUEST = 64 * 1024;

/**
 * One JSON line in, one JSON line out, on a socket only this user can open: `belay kill --local` works with Valkey and
 * every orchestrator down. Who can open it could kill the processes anyway.
 */
export async function startBreakGlassServer(path: string, breakGlass: BreakGlass): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (existsSync(path)) rmSync(path);
  const server = createServer((socket) => serve(socket, breakGlass));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return server;
}

function serve(socket: Socket, breakGlass: BreakGlass): void {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('error', () => undefined);
  socket.on('data', (chunk: string) => {
    text += chunk;
    if (text.length > LONGEST_REQUEST) socket.destroy();
    const end = text.indexOf('\n');
    if (end === -1) return;
    const line = text.slice(0, end);
    text = '';
    void answer(line, breakGlass).then((reply) => socket.end(`${JSON.stringify(reply)}\n`));
  });
}

async function answer(line: string, breakGlass: BreakGlass): Promise<object> {
  try {
    return await breakGlass.kill(validateLocalKill(JSON.parse(line)));
  } catch (error) {
    if (isBelayError(error)) return { code: error.code, detail: error.message, problems: error.problems };
    return { code: 'INVALID_JSON', detail: 'The request is not one line of JSON.', problems: [] };
  }
}
