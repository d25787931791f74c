import type { LocalKillRequest } from '#libs/contracts';
import type { AuditStore, LatchStore, LocalReceipt } from '#libs/killswitch';
import { BreakGlassLedger } from './break-glass-ledger';

const REQUEST: LocalKillRequest = { scope: { type: 'all' }, mode: 'immediate', by: 'ops' };
const receipt = (id: string): LocalReceipt =>
  ({ id, scope: REQUEST.scope, complete: true, targets: [] }) as unknown as LocalReceipt;

it('R55 tells every act that it keeps once, also one that comes while the first is told, and counts those that made room', async () => {
  const ledger = new BreakGlassLedger({ workerId: 'wrk_1' });
  for (let i = 0; i < 1_000; i++) ledger.done(receipt(`act_${i}`), REQUEST);
  const told: { readonly id: string; readonly dropped: unknown }[] = [];
  const audit = {
    record: async (id: string, { dropped }: { readonly dropped?: number }) => {
      // Somebody kills on this machine while the server is asked to store the first.
      if (told.length === 0) for (const late of ['late_1', 'late_2']) ledger.done(receipt(late), REQUEST);
      told.push({ id, dropped });
    },
  };
  await ledger.tell({} as LatchStore, audit as unknown as AuditStore);
  const kept = Array.from({ length: 997 }, (_, i) => `act_${i + 3}`);
  expect(told.map(({ id }) => id)).toEqual(['act_0', ...kept, 'late_1', 'late_2']);
  expect(told.filter(({ dropped }) => dropped !== undefined)).toEqual([{ id: 'act_3', dropped: 2 }]);
  await ledger.tell({} as LatchStore, audit as unknown as AuditStore);
  expect(told).toHaveLength(1_000);
});
