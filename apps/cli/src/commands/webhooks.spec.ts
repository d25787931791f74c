import type { Routes, ScriptedServer } from '../../../../test/support/scripted-server';
import { useScriptedServer } from '../../../../test/support/scripted-server';

let routes: Routes;
let belay: ScriptedServer['belay'];
useScriptedServer((server) => ({ routes, belay } = server));

const AT = Date.UTC(2026, 10, 21, 2, 30, 1);

describe('belay webhooks', () => {
  it('lists the endpoints with their last success and error', async () => {
    routes['GET /api/webhooks'] = [200, { items: [] }];
    expect((await belay(['webhooks'])).err).toBe('No endpoint is named: set BELAY_WEBHOOKS_FILE.\n');
    const quiet = { name: 'chat', origin: 'https://chat.example', events: ['*'], waiting: 0, failed: 0 };
    const pager = {
      ...quiet,
      name: 'pager',
      failed: 2,
      lastSuccessAt: AT,
      lastErrorAt: AT,
      lastError: 'answered 500',
    };
    routes['GET /api/webhooks'] = [200, { items: [quiet, pager] }];
    expect((await belay(['webhooks'])).out).toBe(
      'NAME   TO                    WAITING  FAILED  LAST SUCCESS          LAST ERROR\n' +
        'chat   https://chat.example  0        0\n' +
        'pager  https://chat.example  0        2       2026-11-21 02:30:01Z  2026-11-21 02:30:01Z: answered 500\n',
    );
    expect(JSON.parse((await belay(['webhooks', '--json'])).out)).toEqual({ items: [quiet, pager] });
  });

  it('lists the newest deliveries to one', async () => {
    routes['GET /api/webhooks/pager/deliveries'] = [200, { items: [] }];
    expect((await belay(['webhooks', 'pager'])).err).toBe('Nothing was sent to this endpoint yet.\n');
    const items = [
      {
        id: 'evt_1-0',
        type: 'order.open',
        state: 'failed',
        attempts: 18,
        createdAt: AT,
        error: 'answered 500',
      },
    ];
    routes['GET /api/webhooks/pager/deliveries'] = [200, { items }];
    expect((await belay(['webhooks', 'pager'])).out).toBe(
      'ID       TYPE        STATE   TRIES  STORED                ERROR\n' +
        'evt_1-0  order.open  failed  18     2026-11-21 02:30:01Z  answered 500\n',
    );
    expect(JSON.parse((await belay(['webhooks', 'pager', '--json'])).out)).toEqual({ items });
  });
});
