import { ServerFullError } from '#libs/contracts';
import { isFull, type Valkey } from '#libs/valkey';

/** Submits may fill this share of the server's maxmemory. The rest is for running executions, which go on writing. */
const SHARE_OF_SERVER = 0.9;

/** How much of the state's bound is used on the server that keeps a key. Bytes. */
export interface RoomLook {
  readonly usedBytes: number;
  readonly limitBytes: number;
}

/**
 * The bound on the memory of the state: BELAY_MAX_STATE_MB or nine tenths of the server's maxmemory, whichever is
 * less. Where neither is set there is no bound.
 */
export class StateRoom {
  constructor(
    private readonly valkey: Valkey,
    private readonly maxStateBytes = Number.POSITIVE_INFINITY,
  ) {}

  /** Undefined: there is no bound, or the server does not report its memory. `fresh`: ask the server now. */
  async look(key: string, { fresh = false } = {}): Promise<RoomLook | undefined> {
    const { memory } = this.valkey;
    const look = await (fresh ? memory.atNow(key) : memory.at(key));
    if (look === undefined) return undefined;
    const ofServer = look.maxBytes === undefined ? Number.POSITIVE_INFINITY : look.maxBytes * SHARE_OF_SERVER;
    const limitBytes = Math.min(this.maxStateBytes, ofServer);
    return Number.isFinite(limitBytes) ? { usedBytes: look.usedBytes, limitBytes } : undefined;
  }

  /** @throws ServerFullError when there is no room for another execution. */
  async assertRoom(key: string): Promise<void> {
    const look = await this.look(key);
    if (look !== undefined && look.usedBytes > look.limitBytes)
      throw new ServerFullError(look.usedBytes, look.limitBytes);
  }

  /** Runs `work`, and turns the server's OOM error into a typed one. @throws ServerFullError */
  async guarding<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isFull(error)) throw error;
      const { usedBytes = 0, limitBytes = 0 } = (await this.look(key)) ?? {};
      throw new ServerFullError(usedBytes, limitBytes, error);
    }
  }
}
