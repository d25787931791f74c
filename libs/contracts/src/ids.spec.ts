import fc from 'fast-check';
import { agentQueueName, ownPoolOf } from './dispatch';
import {
  agentIdOf,
  isAgentId,
  isExecutionId,
  isLatchId,
  isOrderId,
  isWorkerId,
  parseAgentId,
  shardOf,
} from './ids';

const ULID = '01HZXW3V9K8Q2M4N6P7R5S0T1A';
const EXECUTION = `exe_${ULID}`;

describe('ids', () => {
  it('carry their kind', () => {
    const kinds = [isExecutionId, isAgentId, isWorkerId, isOrderId, isLatchId];
    const ids = [EXECUTION, `agt_${ULID}-0-1`, `wrk_${ULID}`, `ord_${ULID}`, `lat_${ULID}`];
    ids.forEach((id, i) => {
      expect(kinds.map((isKind) => isKind(id))).toEqual(kinds.map((_, j) => i === j));
    });
  });

  it.each([
    '',
    'exe_',
    `exe_${ULID}x`,
    ` exe_${ULID}`,
    `exe_${ULID}\n`,
    `exe_${ULID.toLowerCase()}`,
    `exe_${'I'.repeat(26)}`,
  ])('%j is none', (id) => {
    expect(isExecutionId(id)).toBe(false);
  });

  it('of agents are made of execution, place and attempt, and come apart again', () => {
    fc.assert(
      fc.property(fc.nat({ max: 99_999 }), fc.integer({ min: 1, max: 999_999 }), (index, attempt) => {
        const id = agentIdOf(EXECUTION, index, attempt);
        expect(isAgentId(id)).toBe(true);
        expect(parseAgentId(id)).toEqual({ executionId: EXECUTION, index, attempt });
      }),
    );
  });

  it.each([`agt_${ULID}-0-0`, `agt_${ULID}-00-1`, `agt_${ULID}-1`, EXECUTION, ''])(
    '%j is no agent of any attempt',
    (id) => {
      expect(parseAgentId(id)).toBeUndefined();
    },
  );
});

describe('the shard of an execution', () => {
  it('is the same for life: these were written down', () => {
    expect(shardOf(EXECUTION, 4)).toBe(shardOf(EXECUTION, 4));
    expect(shardOf('', 1 << 30)).toBe(0x811c9dc5 % (1 << 30));
    expect(shardOf('a', 2 ** 32)).toBe(0xe40c292c);
    expect(shardOf('foobar', 2 ** 32)).toBe(0xbf9cf968);
  });

  it('is spread evenly', () => {
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 4_000; i++) {
      const shard = shardOf(`exe_${ULID.slice(0, 20)}${String(100_000 + i)}`, 4);
      counts[shard] = (counts[shard] as number) + 1;
    }
    for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  });
});

it('each pool has a queue of its own name', () => {
  expect(agentQueueName('gpu')).toBe('belay-agents-gpu');
  expect(agentQueueName(ownPoolOf('wrk_1'))).toBe('belay-agents-@wrk_1');
});
