import type { NodeSpec, Scope } from '#libs/contracts';
import type { KillswitchService, LatchStore } from '#libs/killswitch';
import type { LifecycleService } from '#libs/lifecycle';
import type { Valkey } from '#libs/valkey';
import fc from 'fast-check';
import { useKillswitch } from '../support/killswitch';
import { node } from '../support/life';
import { expectProperty } from './runs';

let valkey: Valkey;
let life: LifecycleService;
let latches: LatchStore;
let killswitch: KillswitchService;
const errors: unknown[] = [];
useKillswitch((rig) => ({ valkey, life, latches, killswitch } = rig), {
  proofLimitMs: 10_000,
  onError: (error) => void errors.push(error),
});

const TEAMS = ['a', 'a', 'b'];
const NODE: NodeSpec = node('a');

interface Held {
  readonly id: string;
  readonly team: string;
  /** `nobody`: it runs. `person`: until a person resumes it. A freeze: until its latch is released. */
  by: 'nobody' | 'person' | { readonly latchId: string };
}
interface Engaged {
  readonly latchId: string;
  readonly kind: 'latch' | 'freeze';
  readonly covers: (team: string) => boolean;
}

const act = fc.record({
  what: fc.constantFrom(
    'freeze',
    'freeze',
    'latch',
    'release',
    'release',
    'releaseAndDie',
    'pause',
    'resume',
    'resume',
    'sweep',
  ),
  pick: fc.nat(20),
  how: fc.nat(2),
});
const SCOPES: readonly Scope[] = [
  { type: 'all' },
  { type: 'selector', selector: 'team=a' },
  { type: 'selector', selector: 'team!=a' },
];
const COVERS = [() => true, (team: string) => team === 'a', (team: string) => team !== 'a'] as const;

class Model {
  engaged: Engaged[] = [];
  /** A process released it and died before it resumed the executions that it had paused. */
  owed = false;

  constructor(readonly held: readonly Held[]) {}

  /** Executions that a released latch had paused go on, unless another freeze covers them. */
  settle(): void {
    this.owed = false;
    for (const one of this.held) {
      const { by } = one;
      if (typeof by === 'string' || this.engaged.some(({ latchId }) => latchId === by.latchId)) continue;
      const other = this.engaged.find(({ kind, covers }) => kind === 'freeze' && covers(one.team));
      one.by = other === undefined ? 'nobody' : { latchId: other.latchId };
    }
  }
}

async function take(
  model: Model,
  { what, pick, how }: { what: string; pick: number; how: number },
): Promise<void> {
  const one = model.held[pick % model.held.length]!;
  const scope = SCOPES[how]!;
  switch (what) {
    case 'freeze': {
      const { latchId } = await killswitch.placeOrder({ kind: 'freeze', scope, latch: true, by: 'me' });
      model.engaged.push({ latchId: latchId!, kind: 'freeze', covers: COVERS[how]! });
      for (const each of model.held)
        if (each.by === 'nobody' && COVERS[how]!(each.team)) each.by = { latchId: latchId! };
      break;
    }
    case 'latch': {
      const { latchId } = await killswitch.placeOrder({
        kind: 'kill',
        scope: { type: 'pool', pool: 'none' },
        latch: true,
        by: 'me',
      });
      model.engaged.push({ latchId: latchId!, kind: 'latch', covers: () => false });
      break;
    }
    case 'release':
    case 'releaseAndDie': {
      const latch = model.engaged[pick % Math.max(1, model.engaged.length)];
      if (latch === undefined) break;
      model.engaged = model.engaged.filter((each) => each !== latch);
      if (what === 'release') {
        await killswitch.holds.release(latch.latchId, { by: 'me', note: 'over' });
        model.settle();
      } else {
        await latches.release(latch.latchId, 'me', 'over');
        model.owed = true;
      }
      break;
    }
    case 'pause':
      await killswitch.holds.pause(one.id, { mode: how === 0 ? 'freeze' : 'drain', by: 'me' });
      one.by = 'person';
      break;
    case 'resume': {
      const isCovered = model.engaged.some(({ covers }) => covers(one.team));
      const code = await killswitch.holds.resume(one.id, { by: 'me' }).then(
        () => 'ok',
        (error: unknown) => (error as { code: string }).code,
      );
      expect(code).toBe(one.by !== 'nobody' && isCovered ? 'LATCHED' : 'ok');
      if (code === 'ok') one.by = 'nobody';
      break;
    }
    default:
      await killswitch.holds.sweep();
      model.settle();
  }
}

async function expectSame(model: Model): Promise<void> {
  const byLatch = new Map((await life.executions.held()).map(({ id, latchId }) => [id, latchId]));
  for (const { id, by } of model.held) {
    const { state } = await life.executions.get(id);
    expect({ id, state }).toEqual({ id, state: by === 'nobody' ? 'running' : 'paused' });
    const holder = byLatch.get(id);
    if (typeof by === 'string') expect(holder).toBeUndefined();
    // Any of several freezes may keep it paused.
    else expect([by.latchId, ...model.engaged.map(({ latchId }) => latchId)]).toContain(holder);
    if (typeof by !== 'string') model.held.find((each) => each.id === id)!.by = { latchId: holder! };
  }
}

it('R22 any freezes, pauses, resumes and releases, with a process that dies in between: each execution is paused as long as the act that did it is not undone, and no longer', async () => {
  await expectProperty(
    fc.asyncProperty(fc.array(act, { maxLength: 20, size: 'max' }), async (acts) => {
      await valkey.redis.flushall();
      errors.length = 0;
      const held: Held[] = [];
      for (const team of TEAMS) {
        const spec = { name: 'x', labels: { team }, onFailure: 'stop' as const, nodes: [NODE] };
        const { id } = await life.executions.create(spec, { start: true, canonical: team });
        await life.executions.advance(id);
        held.push({ id, team, by: 'nobody' });
      }
      const model = new Model(held);
      for (const one of acts) {
        await take(model, one);
        await expectSame(model);
      }
      await killswitch.holds.sweep();
      model.settle();
      await expectSame(model);
      for (const { id, team, by } of held) {
        const job = { agentId: `agt_${id.slice(4)}-0-1`, executionId: id, nodeId: 'a', attempt: 1 };
        const granted = await life.agents.claim(job, 'wrk_1', 'token');
        const isFrozen = model.engaged.some(({ covers }) => covers(team));
        expect(granted.claimed ? 'ok' : granted.why).toBe(
          by !== 'nobody' ? 'NOT_RUNNING' : isFrozen ? 'LATCHED' : 'ok',
        );
      }
      expect(errors).toEqual([]);
    }),
    40,
  );
}, 300_000);
