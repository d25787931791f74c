import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from './host-record';
import { collectProofs, proofPath, writeProof, type WorkerProof } from './worker-proof';

const WORKER = 'wrk_01HZZZZZZZZZZZZZZZZZZZZZZZ';
const WHOLE: WorkerProof = { workerId: WORKER, containment: 'marks', processes: [], by: 'guardian' };
const OF_SOME: WorkerProof = { ...WHOLE, leaders: [{ pid: 7, startTime: '1' }] };

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'belay-proof-'));
  makeFolder(dataDir);
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

describe('R17 R51 a proof that is replaced while the earlier one is reported', () => {
  // A worker was silent, then it died: its guardian proves some trees first, and later all of them.
  it.each<['refused' | undefined]>([[undefined], ['refused']])(
    'is reported the next time, whatever became of the earlier one (%s)',
    async (taken) => {
      const path = proofPath(dataDir, WORKER);
      writeProof(path, OF_SOME);
      await collectProofs(dataDir, async () => {
        writeProof(path, WHOLE);
        return taken;
      });
      const told: WorkerProof[] = [];
      await collectProofs(dataDir, async (proof) => void told.push(proof));
      expect(told).toEqual([WHOLE]);
      await collectProofs(dataDir, async (proof) => void told.push(proof));
      expect(told).toHaveLength(1);
    },
  );
});
