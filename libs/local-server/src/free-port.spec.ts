import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { freePort } from './free-port';

const listening = (port: number): Promise<Server> =>
  new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });

it('gives a port that an outgoing connection never gets', async () => {
  const range = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  const first = Number(range.trim().split(/\s+/)[0]);
  const ports = await Promise.all(Array.from({ length: 50 }, async () => freePort()));
  expect(ports.filter((port) => port >= first)).toEqual([]);
  const server = await listening(ports[0] as number);
  await new Promise((resolve) => server.close(resolve));
});

it('passes over a port that somebody listens on', async () => {
  const taken = await freePort();
  const server = await listening(taken);
  try {
    const choices = [taken, taken, await freePort()];
    expect(await freePort(() => choices.shift() as number)).not.toBe(taken);
    expect(choices).toEqual([]);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

it('says that it found none, instead of looking for ever', async () => {
  const taken = await freePort();
  const server = await listening(taken);
  try {
    await expect(freePort(() => taken)).rejects.toThrow('were all taken');
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});
