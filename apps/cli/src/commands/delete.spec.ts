import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

const EXE = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';

let asked: string[];
let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ asked, routes, belay } = server));

describe('belay delete', () => {
  it('deletes one execution, and says how it had ended', async () => {
    routes[`DELETE /api/executions/${EXE}`] = [200, { executionId: EXE, state: 'failed' }];
    expect(await belay(['delete', EXE])).toMatchObject({
      code: 0,
      out: `${EXE}  deleted (it was failed)\n`,
      err: '',
    });
    expect(asked).toEqual([`DELETE /api/executions/${EXE}`]);
    expect(JSON.parse((await belay(['delete', EXE, '--json'])).out)).toEqual({
      executionId: EXE,
      state: 'failed',
    });
  });

  it('shows a refusal, with the command that helps, and never asks twice', async () => {
    const detail = `Execution ${EXE} is running. Only an ended one can be deleted: stop it first (belay stop ${EXE}), or wait for its end.`;
    routes[`DELETE /api/executions/${EXE}`] = [409, { code: 'NOT_ENDED', detail }];
    expect(await belay(['delete', EXE])).toMatchObject({ code: 1, out: '', err: `belay: ${detail}\n` });
    routes[`DELETE /api/executions/${EXE}`] = (response) => response.destroy();
    expect((await belay(['delete', EXE])).err).toContain('it may have run');
    expect(asked).toHaveLength(2);
  });
});
