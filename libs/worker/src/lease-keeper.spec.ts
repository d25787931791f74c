import { setTimeout as pause } from 'node:timers/promises';
import { StaleEpochError, type BelayError } from '#libs/contracts';
import type { Heartbeat } from '#libs/lifecycle';
import { LeaseKeeper } from './lease-keeper';

const BEAT: Heartbeat = { state: 'running', now: 0, ordersHead: '0-0' };
const FENCE_MS = 1_000;

/** The keeper's events, in order. */
let seen: string[];
/** The monotonic times from which the guardian counts. */
let armed: number[];
let keeper: LeaseKeeper;
beforeEach(() => {
  seen = [];
  armed = [];
});
afterEach(() => keeper.stop());

function start(renew: () => Promise<Heartbeat>): void {
  keeper = new LeaseKeeper({
    heartbeatMs: 20,
    fenceAfterMs: FENCE_MS,
    renew,
    armFence: (sentAt) => armed.push(sentAt),
  });
  keeper.renewed$.subscribe(() => seen.push('renewed'));
  keeper.silent$.subscribe(() => seen.push('silent'));
  keeper.contact$.subscribe(() => seen.push('contact'));
  keeper.taken$.subscribe(() => seen.push('taken'));
  keeper.trouble$.subscribe((error) => seen.push(`trouble ${(error as BelayError).message}`));
  keeper.start(performance.now());
}
const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await pause(1);
};

describe('R27 a lease', () => {
  it('arms the guardian from the sending of a renewal, not from its answer', async () => {
    let sentAt = 0;
    start(async () => {
      sentAt = performance.now();
      await pause(100);
      return BEAT;
    });
    await until(() => seen.includes('renewed'));
    expect(armed.at(-1)).toBeLessThanOrEqual(sentAt);
  });

  it('is kept by renewals that are answered, and counts each one from its own sending', async () => {
    let tries = 0;
    // Every second try fails after a while. The answer to the next try must not count from the failed one.
    start(async () => {
      if (++tries % 2 === 0) throw new Error('Connection is closed.');
      return BEAT;
    });
    await until(() => seen.filter((what) => what === 'renewed').length === 5);
    expect(seen).not.toContain('silent');
    expect(keeper.holds).toBe(true);
    expect(keeper.wasSilent).toBe(false);
  });

  it('is given up by its own clock when a renewal hangs, and is back with the next one', async () => {
    let answer: (beat: Heartbeat) => void = () => undefined;
    let hang = true;
    start(async () => (hang ? new Promise<Heartbeat>((resolve) => (answer = resolve)) : BEAT));
    const begun = performance.now();
    await until(() => seen.includes('silent'));
    expect(performance.now() - begun).toBeGreaterThanOrEqual(FENCE_MS - 25);
    expect([keeper.holds, keeper.isFenced, keeper.wasSilent]).toEqual([false, true, true]);
    hang = false;
    // That try was sent too long ago: its answer alone restores no contact.
    answer(BEAT);
    await until(() => seen.includes('contact'));
    expect(keeper.isFenced).toBe(false);
    expect(keeper.wasSilent).toBe(true);
    expect(seen.filter((what) => what === 'silent')).toHaveLength(1);
  });

  it('that was taken is told of; one trouble is told once', async () => {
    let code: Error = new Error('away');
    start(async () => Promise.reject(code));
    await until(() => seen.length > 0);
    await pause(60);
    expect(seen).toEqual(['trouble away']);
    code = new StaleEpochError('worker', 'w', {});
    await until(() => seen.includes('taken'));
  });

  it('that is given back ends its timers: an answer under way renews nothing', async () => {
    let answer: (beat: Heartbeat) => void = () => undefined;
    let sent = false;
    start(async () => {
      sent = true;
      return new Promise<Heartbeat>((resolve) => (answer = resolve));
    });
    await until(() => sent);
    const before = armed.length;
    keeper.stop();
    answer(BEAT);
    await pause(FENCE_MS + 50);
    expect(seen).toEqual([]);
    expect(armed).toHaveLength(before);
  });
});
