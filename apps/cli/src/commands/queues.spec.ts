import { EXIT } from '../exit-codes';
import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const LATCH_ID = 'lat_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const QUEUE = { pool: 'gpu', waiting: 4, delayed: 1, active: 2, workers: 3, latches: [] };
const PAUSE = {
  latchId: LATCH_ID,
  by: 'api',
  since: Date.UTC(2026, 10, 21, 2, 30, 1),
  note: 'bad\u001b[2J driver',
};

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

describe('R34 belay queues', () => {
  it('lists the attempts of each pool and what keeps them from starting', async () => {
    routes['GET /api/queues'] = [200, { items: [] }];
    expect((await belay(['queues'])).err).toBe('No pool has work, and no worker serves one.\n');
    const held = { ...QUEUE, pool: 'web', latches: [LATCH_ID] };
    const items = [{ ...QUEUE, pool: 'cpu' }, { ...QUEUE, pause: PAUSE }, held];
    routes['GET /api/queues'] = [200, { items }];
    expect(await belay(['queues'])).toMatchObject({
      code: 0,
      out:
        'POOL  STATE    WAITING  DELAYED  ACTIVE  WORKERS  NOTE\n' +
        'cpu   open     4        1        2       3\n' +
        'gpu   paused   4        1        2       3        paused by api at 2026-11-21 02:30:01Z: bad[2J driver\n' +
        `web   latched  4        1        2       3        ${LATCH_ID}\n`,
      err: 'A paused pool starts nothing until: belay queues resume POOL\n',
    });
    expect(JSON.parse((await belay(['queues', '--json'])).out)).toEqual({ items });
  });

  it('pauses and resumes one', async () => {
    routes['POST /api/queues/gpu/pause'] = [200, { queue: { ...QUEUE, pause: PAUSE }, already: false }];
    expect(await belay(['queues', 'pause', 'gpu', '--note', 'bad driver'])).toMatchObject({
      code: 0,
      out: 'pool gpu is paused: none of its nodes starts; 5 wait, 2 run\n',
      err: 'Resume it with: belay queues resume gpu\n',
    });
    expect(asked.at(-1)).toBe('POST /api/queues/gpu/pause {"note":"bad driver"}');
    routes['POST /api/queues/gpu/resume'] = [
      200,
      { queue: { ...QUEUE, latches: [LATCH_ID] }, already: false },
    ];
    expect(await belay(['queues', 'resume', 'gpu'])).toMatchObject({
      out: 'pool gpu is resumed; 5 wait, 2 run\n',
      err: `It is still covered by ${LATCH_ID}: belay latches\n`,
    });
    routes['POST /api/queues/gpu/resume'] = [200, { queue: QUEUE, already: true }];
    expect((await belay(['queues', 'resume', 'gpu'])).out).toBe('pool gpu was not paused; 5 wait, 2 run\n');
    const { out } = await belay(['queues', 'resume', 'gpu', '--json']);
    expect(JSON.parse(out)).toEqual({ queue: QUEUE, already: true });
  });

  it('R34 warns of a pool that nothing has, with exit code 8, and has paused it', async () => {
    const warning = { code: 'NOTHING_MATCHED', message: 'No live worker serves pool gup. Did you mean gpu?' };
    const answer = { queue: { ...QUEUE, pool: 'gup', pause: PAUSE }, already: false, warning };
    routes['POST /api/queues/gup/pause'] = [200, answer];
    expect(await belay(['queues', 'pause', 'gup'])).toMatchObject({
      code: EXIT.unmatched,
      out: 'pool gup is paused: none of its nodes starts; 5 wait, 2 run\n',
      err: `Resume it with: belay queues resume gup\nwarning: ${warning.message}\n`,
    });
    const json = await belay(['queues', 'pause', 'gup', '--json']);
    expect(json).toMatchObject({ code: EXIT.unmatched, err: '' });
    expect(JSON.parse(json.out)).toEqual(answer);
  });

  it('removes waiting attempts with a reason, call by call, and counts first where asked', async () => {
    expect(await belay(['queues', 'remove', 'gpu'])).toMatchObject({ code: EXIT.usage });
    routes['POST /api/queues/gpu/remove?dryRun=1'] = [200, { removed: 5_000, more: true }];
    expect((await belay(['queues', 'remove', 'gpu', '--dry-run'])).out).toBe(
      'at least 5000 attempts would be removed from pool gpu; nothing was removed\n',
    );
    routes['POST /api/queues/gpu/remove'] = [200, { removed: 7, more: false }];
    const args = ['queues', 'remove', 'gpu', '--selector', 'team=data', '--note', 'wrong import'];
    expect((await belay(args)).out).toBe(
      '7 attempts removed from pool gpu: each node is cancelled with the error REMOVED\n',
    );
    expect(asked.at(-1)).toBe('POST /api/queues/gpu/remove {"note":"wrong import","selector":"team=data"}');
    expect(JSON.parse((await belay([...args, '--json'])).out)).toEqual({
      pool: 'gpu',
      removed: 7,
      more: false,
      dryRun: false,
    });
  });
});
