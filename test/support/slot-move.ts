import type { ThrowawayServer } from '#libs/local-server';
import { call } from './many-servers';

const LOOK = 1_000;
const MIGRATE_MS = 5_000;

interface Between {
  readonly from: ThrowawayServer;
  readonly to: ThrowawayServer;
}

/** One slot of a Cluster on its way to another node, moved like `valkey-cli --cluster reshard`, as slowly as a test wants. */
export class SlotMove {
  #isOver = false;

  private constructor(
    private readonly between: Between,
    readonly slot: number,
  ) {}

  /** Begins the move of the key's slot: from here on both nodes know of it. */
  static async begin(between: Between, key: string): Promise<SlotMove> {
    const { from, to } = between;
    const slot = Number(await call(from, 'CLUSTER', 'KEYSLOT', key));
    await call(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', await idOf(from));
    await call(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', await idOf(to));
    return new SlotMove(between, slot);
  }

  /** Moves the keys for which `isMeant` is true, one by one. @returns how many */
  async keys(isMeant: (key: string) => boolean): Promise<number> {
    const { from, to } = this.between;
    const keys = (await call(from, 'CLUSTER', 'GETKEYSINSLOT', this.slot, LOOK)) as string[];
    const meant = keys.filter(isMeant);
    const { hostname, port } = new URL(to.url);
    for (const key of meant) await call(from, 'MIGRATE', hostname, Number(port), key, 0, MIGRATE_MS);
    return meant.length;
  }

  /** Moves the other keys, then the slot itself. Repeatable. */
  async end(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    while ((await this.keys(() => true)) > 0);
    const { from, to } = this.between;
    const id = await idOf(to);
    for (const server of [to, from]) await call(server, 'CLUSTER', 'SETSLOT', this.slot, 'NODE', id);
  }
}

async function idOf(server: ThrowawayServer): Promise<string> {
  return String(await call(server, 'CLUSTER', 'MYID'));
}
