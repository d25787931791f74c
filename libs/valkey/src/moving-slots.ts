import { Cluster } from 'ioredis';
import type { Server } from './connection';

/** `[93-<-NODE]` on the node a slot comes to, `[93->-NODE]` on the node it leaves. */
const MOVING = /\[(\d+)-[<>]-\w+\]/g;

/** Slots of a Cluster that are moving from one node to another, in order. Empty where there are no slots. */
export async function movingSlots(server: Server): Promise<number[]> {
  if (!(server instanceof Cluster)) return [];
  const slots = new Set<number>();
  for (const node of server.nodes('master')) {
    const lines = String(await node.cluster('NODES')).split('\n');
    // Each node reports only its own slots.
    const own = lines.find((line) => line.includes('myself')) ?? '';
    for (const [, slot] of own.matchAll(MOVING)) slots.add(Number(slot));
  }
  return [...slots].toSorted((a, b) => a - b);
}
