import { conditionsOf } from '#libs/contracts';
import { createExecution, node, spec, useLife } from '../../../test/support/life';
import type { LifecycleService } from './lifecycle.service';

let life: LifecycleService;
useLife((rig) => ({ life } = rig));

const made = new Map<string, string>();
beforeAll(async () => {
  const labels: Record<string, Record<string, string>> = {
    a1: { tenant: 'a', env: 'prod' },
    a2: { tenant: 'a' },
    b: { tenant: 'b' },
    none: {},
  };
  for (const [name, each] of Object.entries(labels))
    made.set(name, await createExecution(life, { ...spec([node('n')]), labels: each }));
});

describe('R65 a list of executions by a selector', () => {
  it.each([
    ['tenant=a', [], ['a1', 'a2']],
    ['tenant=a', ['env=prod'], ['a1']],
    ['tenant=a', ['tenant=b'], []],
    ['tenant in (a,b)', [], ['a1', 'a2', 'b']],
    ['tenant!=a', [], ['b', 'none']],
    ['!tenant', [], ['none']],
    ['tenant,env', [], ['a1']],
  ])('%s with the labels %j lists %j', async (selector, labels, names) => {
    const { items } = await life.executions.list({ selector: conditionsOf(selector), labels });
    expect(items.map(({ id }) => id).sort()).toEqual(names.map((name) => made.get(name) ?? '').sort());
  });

  it('has whole pages: records that it leaves out take no place', async () => {
    const selector = conditionsOf('tenant=a');
    const first = await life.executions.list({ selector, limit: 1 });
    expect(first.items).toHaveLength(1);
    const cursor = first.nextCursor ?? '';
    const second = await life.executions.list({ selector, limit: 1, cursor });
    expect([...first.items, ...second.items].map(({ id }) => id).sort()).toEqual(
      ['a1', 'a2'].map((name) => made.get(name) ?? '').sort(),
    );
  });
});
