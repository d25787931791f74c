import { createHmac } from 'node:crypto';
import { gradeOf, type StopReport } from '#libs/contracts';
import { stopReport, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';
import { PROOF_KEY, type ProofSeal } from './worker-store';

let life: LifecycleService;
useLife((rig) => ({ life } = rig));

const BY_KERNEL: StopReport = { ...stopReport(), evidence: [{ kind: 'descent-empty' }] };
const KEY = 'k'.repeat(64);
const TEXT = JSON.stringify({ workerId: 'wrk_dead' });
const sealOf = (key: string, signer: string): ProofSeal => ({
  signer,
  text: TEXT,
  signature: createHmac('sha256', key).update(TEXT).digest('hex'),
});

const register = async (id: string): Promise<unknown> =>
  life.workers.register(id, { [PROOF_KEY]: KEY }, 60_000);
const gradeNow = async (id: string) => {
  const kept = await life.workers.proof(id);
  return kept === undefined ? undefined : gradeOf(kept.report);
};

describe('R51 a proof that was read from a file', () => {
  it('keeps its grade when its worker, or a worker that reaped it, signed it', async () => {
    await register('wrk_dead_1');
    await life.workers.saveFiledProof('wrk_dead_1', BY_KERNEL, undefined, sealOf(KEY, 'wrk_dead_1'));
    expect(await gradeNow('wrk_dead_1')).toBe('kernel');
    await register('wrk_dead_2');
    await life.workers.saveFiledProof('wrk_dead_2', BY_KERNEL, undefined, sealOf(KEY, 'wrk_dead_1'));
    expect(await gradeNow('wrk_dead_2')).toBe('kernel');
  });

  it.each([
    ['without a signature', undefined],
    ['signed with another key', sealOf('x'.repeat(64), 'wrk_alive')],
    ['signed for a worker that nobody knows', sealOf(KEY, 'wrk_nobody')],
    ['with a signature that is none', { ...sealOf(KEY, 'wrk_alive'), signature: 'no' }],
    ['whose text was changed', { ...sealOf(KEY, 'wrk_alive'), text: `${TEXT} ` }],
  ])('%s is refused and proves nothing', async (_, seal) => {
    await register('wrk_alive');
    expect(await life.workers.saveFiledProof('wrk_alive', BY_KERNEL, undefined, seal)).toBe('refused');
    expect(await life.workers.proof('wrk_alive')).toBeUndefined();
  });

  it('counts for marks at most where its worker has no key, as of an earlier release', async () => {
    await life.workers.register('wrk_old', {}, 60_000);
    await life.workers.saveFiledProof('wrk_old', BY_KERNEL, undefined, undefined);
    expect(await gradeNow('wrk_old')).toBe('marks');
  });

  it.each([
    ['right', sealOf(KEY, 'wrk_signs')],
    ['wrong', sealOf('x'.repeat(64), 'wrk_signs')],
    ['wrong', { ...sealOf(KEY, 'wrk_signs'), text: `${TEXT} ` }],
    ['unknown', sealOf(KEY, 'wrk_nobody')],
  ])('and a record in the data directory: a seal is %s', async (verdict, seal) => {
    await register('wrk_signs');
    expect(await life.workers.checkSeal(seal)).toBe(verdict);
  });

  it('is checked by a key that no reading of the worker’s record gives away', async () => {
    await register('wrk_secret');
    expect(JSON.stringify(await life.workers.get('wrk_secret'))).not.toContain(KEY);
  });
});
