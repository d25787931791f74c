import type { BelayClient } from '#libs/client';
import { parseGrace } from './parse-duration';
import { collectLabel, listOf, positiveNumber, wholeNumber } from './parse-values';
import { kindOf, requireId, resolveExecutionId } from './resolve-id';

const A = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV';
const B = 'exe_01ARZ3NDEKTSV4RRFFQ69G5FAW';

describe('arguments', () => {
  it('reads a grace with its unit', () => {
    expect(['0', '500ms', '2s', '1.5s', '1m'].map(parseGrace)).toEqual([0, 500, 2_000, 1_500, 60_000]);
    expect(() => parseGrace('2')).toThrow('"2" is not a duration such as 500ms, 2s or 1m.');
    expect(() => parseGrace('-1s')).toThrow('is not a duration');
    expect(() => parseGrace('11m')).toThrow('A grace is at most 10m.');
  });

  it('reads labels, lists and numbers', () => {
    expect(collectLabel('a=b=c', { x: 'y' })).toEqual({ x: 'y', a: 'b=c' });
    expect(() => collectLabel('=b')).toThrow('"=b" is not a label such as team=data.');
    expect(listOf(['one', 'two'])('two, one')).toEqual(['two', 'one']);
    expect(() => listOf(['one', 'two'])('three')).toThrow('"three" is not one of one, two.');
    expect(wholeNumber(1, 5)('5')).toBe(5);
    expect(() => wholeNumber(1, 5)('6')).toThrow('"6" is not a whole number from 1 to 5.');
    expect(() => wholeNumber(1, 5)('1.5')).toThrow('is not a whole number');
    expect(positiveNumber('0.01')).toBe(0.01);
    expect(() => positiveNumber('0')).toThrow('"0" is not a number above 0.');
  });

  it('knows ids by their kind', () => {
    expect([A, `agt_${A.slice(4)}-0-1`, `ord_${A.slice(4)}`, `wrk_${A.slice(4)}`, 'x'].map(kindOf)).toEqual([
      'execution',
      'agent',
      'order',
      'worker',
      undefined,
    ]);
    expect(() => requireId(A, 'worker')).toThrow(
      `"${A}" is the id of an execution, not of a worker (wrk_ and 26 characters). List them with: belay workers`,
    );
    expect(() => requireId('agt_1', 'agent')).toThrow(
      '"agt_1" is not the id of an agent (agt_, 26 characters, -INDEX-ATTEMPT). List them with: belay get EXECUTION',
    );
  });
});

describe('an abbreviated execution id', () => {
  const client = { executions: async () => ({ items: [{ id: A }, { id: B }] }) } as unknown as BelayClient;
  const resolve = async (given: string): Promise<string> => await resolveExecutionId(client, given);

  it('is its end or its beginning', async () => {
    expect(await resolve('5FAV')).toBe(A);
    expect(await resolve('5faw')).toBe(B);
    expect(await resolve(A)).toBe(A);
    expect(await resolve('exe_01ARZ3NDEKTSV4RRFFQ69G5FAV')).toBe(A);
  });

  it('must be long enough and name one', async () => {
    await expect(resolve('FAV')).rejects.toThrow(
      '"FAV" is no execution\'s id (exe_ and 26 characters), and too short',
    );
    await expect(resolve('01AR')).rejects.toThrow(`"01AR" matches 2 executions: ${A}, ${B}.`);
    await expect(resolve('exe_5FAV')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(resolve('ABCD')).rejects.toThrow(
      'No execution matches "ABCD". List them with: belay ps --all',
    );
    await expect(resolve('exe_XXX')).rejects.toThrow('"exe_XXX" is no execution\'s id');
    await expect(resolve(`exe_${'U'.repeat(26)}`)).rejects.toThrow('is not the id of an execution');
    await expect(resolve('LOUIS')).rejects.toThrow('"LOUIS" is not the id of an execution');
    await expect(resolve('a b')).rejects.toThrow('is not the id of an execution');
  });
});
