import type { FaultKind } from './plan-types';
import type { State } from './state';
import { ask, tell, type Place } from './tell';

/** In the control keys' slot, so that a Cluster's node takes it too. */
const FILLER = '{belay:ctl}:campaign:filler';
const PIECE_BYTES = 256 * 1024;
/** The memory left to the server when the filling begins, so that it runs full during work. */
const ROOM_BYTES = 4 * 1024 * 1024;
const MOST_PIECES = 64;

const TROUBLES = ['server-readonly', 'server-full', 'server-paused'] as const;
export type ServerTrouble = (typeof TROUBLES)[number];
export const isTrouble = (kind: FaultKind): kind is ServerTrouble =>
  (TROUBLES as readonly string[]).includes(kind);

/** Acts on the server itself, past every link. */
export class ServerHand {
  /** The node that was told, and must be told again at the end. */
  #told: Place | undefined;

  constructor(private readonly state: Pick<State, 'primary'>) {}

  /** False: the server was dead, and could not be told. */
  async begin(kind: ServerTrouble, forMs: number): Promise<boolean> {
    const place = await this.state.primary().catch(() => undefined);
    if (place === undefined) return false;
    this.#told = place;
    switch (kind) {
      // Like a former primary: writes are answered with READONLY, and its data stays.
      case 'server-readonly':
        return tell(place, ['REPLICAOF', '127.0.0.1', '1']);
      case 'server-full':
        return fill(place);
      case 'server-paused':
        return tell(place, ['CLIENT', 'PAUSE', String(forMs), 'ALL']);
    }
  }

  /** A server that was restarted meanwhile has forgotten it. */
  async end(kind: ServerTrouble): Promise<void> {
    const place = this.#told;
    if (place === undefined || kind === 'server-paused') return;
    if (kind === 'server-readonly') await tell(place, ['REPLICAOF', 'NO', 'ONE']);
    else {
      await tell(place, ['CONFIG', 'SET', 'maxmemory', '0']);
      await tell(place, ['DEL', ...Array.from({ length: MOST_PIECES }, (_, i) => `${FILLER}:${i}`)]);
    }
  }
}

/** Foreign data fills the server until it refuses: its policy is noeviction. */
async function fill(place: Place): Promise<boolean> {
  try {
    const used = Number(/^used_memory:(\d+)/m.exec(String(await ask(place, ['INFO', 'memory'])))?.[1]);
    await ask(place, ['CONFIG', 'SET', 'maxmemory', String(used + ROOM_BYTES)]);
    for (let i = 0; i < MOST_PIECES; i++)
      await ask(place, ['SET', `${FILLER}:${i}`, 'x'.repeat(PIECE_BYTES)]);
    return false; // it was never full
  } catch (error) {
    return error instanceof Error && error.message.startsWith('OOM');
  }
}
