import { checkNamespace } from './check-machine';

describe('R51 doctor, of PID namespaces', () => {
  it('says nothing unless the settings ask for them', async () => {
    expect(await checkNamespace('auto', () => 'nothing is there')).toEqual([]);
    expect(await checkNamespace(undefined)).toEqual([]);
  });

  it('names what is missing, and the setting that works without', async () => {
    expect(await checkNamespace('namespace', () => 'unshare is not there')).toEqual([
      {
        name: 'namespaces',
        result: 'fail',
        message: 'BELAY_CONTAINMENT=namespace, and no worker can start: unshare is not there',
        advice: 'set BELAY_CONTAINMENT=auto, which needs none of them',
      },
    ]);
    expect(await checkNamespace('namespace', () => undefined)).toMatchObject([{ result: 'ok' }]);
  });
});
