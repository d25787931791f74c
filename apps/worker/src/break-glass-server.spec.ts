import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startBreakGlassServer } from './break-glass-server';

const KILL = `${JSON.stringify({ scope: { type: 'all' }, mode: 'immediate', by: 'ann', note: 'why' })}\n`;

let folder: string;
let path: string;
let server: Server;
let sockets: Socket[];
/** Lets the kills under way end. */
let release: () => void;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-glass-'));
  path = join(folder, 'worker.sock');
  sockets = [];
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

async function start(options: { requestMs?: number; most?: number }, slow = false): Promise<void> {
  const held = slow ? new Promise<void>((resolve) => (release = resolve)) : undefined;
  const kill = async () => {
    await held;
    return { complete: true } as never;
  };
  server = await startBreakGlassServer(path, { kill }, options);
}

async function open(allowHalfOpen = false): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

/** The answer to a request; empty when the server hangs up. */
const answerOf = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.once('close', () => resolve(text));
    socket.once('end', () => resolve(text));
  });

const connections = (): Promise<number> =>
  new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));

async function ask(): Promise<string> {
  const socket = await open();
  socket.write(KILL);
  return answerOf(socket);
}

it('answers a line, however it is cut', async () => {
  await start({});
  const socket = await open();
  const answered = answerOf(socket);
  for (const byte of KILL) socket.write(byte);
  expect(JSON.parse(await answered)).toEqual({ complete: true });
  const bad = await open();
  bad.write('{\n');
  expect(JSON.parse(await answerOf(bad))).toMatchObject({ code: 'INVALID_JSON' });
});

it('hangs up on a client that has not sent a line in time, a byte at a time too', async () => {
  await start({ requestMs: 300 });
  const startedAt = performance.now();
  const silent = answerOf(await open());
  const slow = await open();
  const bytes = setInterval(() => slow.write('x'), 20);
  expect(await Promise.all([silent, answerOf(slow)])).toEqual(['', '']);
  clearInterval(bytes);
  expect(performance.now() - startedAt).toBeGreaterThan(250);
  expect(await connections()).toBe(0);
});

it('does not hang up on a client that waits for a kill, however long the kill takes', async () => {
  await start({ requestMs: 100 }, true);
  const answered = ask();
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(await connections()).toBe(1);
  release();
  expect(JSON.parse(await answered)).toEqual({ complete: true });
});

it('lets the oldest idle one go for one more, never a kill under way', async () => {
  await start({ most: 8 }, true);
  const under = [ask(), ask()];
  while ((await connections()) < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  const idle: Socket[] = [];
  for (let i = 0; i < 6; i++) idle.push(await open());
  await new Promise((resolve) => setTimeout(resolve, 250));
  expect(await connections()).toBe(8);
  const [oldest, second] = idle as [Socket, Socket];
  const gone = answerOf(oldest);
  const last = ask();
  expect(await gone).toBe('');
  expect(second.destroyed).toBe(false);
  expect(await connections()).toBe(8); // two kills, five idle, the new kill
  release();
  for (const each of await Promise.all([...under, last]))
    expect(JSON.parse(each)).toEqual({ complete: true });
});

it('hears a kill in a flood of 500 connections that say nothing, and keeps 64', async () => {
  await start({});
  const flood = async (): Promise<void> =>
    void (await Promise.all(Array.from({ length: 250 }, () => open())));
  const [, answered] = await Promise.all([flood(), ask(), flood()]);
  expect(JSON.parse(answered)).toEqual({ complete: true });
  while ((await connections()) > 64) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await connections()).toBe(64);
});

it('serves kills beyond the limit when all connections of the limit are kills under way', async () => {
  await start({ most: 4 }, true);
  const all = Array.from({ length: 6 }, () => ask());
  while ((await connections()) < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  release();
  for (const each of await Promise.all(all)) expect(JSON.parse(each)).toEqual({ complete: true });
});

it('closes the connection of a client that has its answer and does not hang up', async () => {
  await start({ requestMs: 200 });
  const socket = await open(true);
  socket.write(KILL);
  expect(JSON.parse(await answerOf(socket))).toEqual({ complete: true });
  while ((await connections()) > 0) await new Promise((resolve) => setTimeout(resolve, 5));
});
