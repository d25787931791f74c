import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONTROL_EVENT_TYPES, MACHINES, statesOf, type StateMachine } from '#libs/contracts';
import { readLuaFiles } from '../../valkey/src/scripts/sources';
import { EVENT_PATTERNS, isWanted } from './event-patterns';

const LUA = join(__dirname, '../../valkey/lua');

it('every type that a script emits about workers, orders and latches can be named, and no other', () => {
  const calls = Object.values(readLuaFiles(LUA)).flatMap((text) => [
    ...text.matchAll(/emit_control\(\{ type = ([^,]+),/g),
  ]);
  const states = (entity: 'worker' | 'order'): string[] =>
    statesOf(MACHINES[entity] as StateMachine<string>).map((state) => `${entity}.${state}`);
  const types = calls.flatMap(([, given = '']) => {
    if (given.startsWith("'worker.' ..")) return states('worker');
    if (given.startsWith("'order.' ..")) return states('order');
    if (given === 'act') return ['drill.passed', 'drill.failed'];
    return [given.replaceAll("'", '')];
  });
  expect([...new Set(types)].toSorted()).toEqual([...CONTROL_EVENT_TYPES].toSorted());
  expect(readFileSync(join(LUA, 'saveDrill.lua'), 'utf8')).toContain("'drill.passed' or 'drill.failed'");
});

it('a pattern names a type, all types of a word, or all', () => {
  expect(EVENT_PATTERNS).toEqual(expect.arrayContaining(['*', 'latch.*', 'drill.*', 'order.unconfirmed']));
  expect(isWanted(['latch.*'], 'latch.engaged')).toBe(true);
  expect(isWanted(['latch.*'], 'order.open')).toBe(false);
  expect(isWanted(['order.open'], 'order.open')).toBe(true);
  expect(isWanted(['*'], 'order.open')).toBe(true);
  expect(isWanted([], 'order.open')).toBe(false);
});
