import { MACHINES } from './states';
import { allowedFrom, isAllowed, isEnded, statesOf, toMermaid, type StateMachine } from './state-machine';

/** The state tables, written out a second time on purpose: a change of the product's table must be intended. */
const PUBLISHED: Record<string, Record<string, string[]>> = {
  execution: {
    idle: ['running', 'stopped'],
    running: ['paused', 'stopping', 'completed', 'failed'],
    paused: ['running', 'stopping'],
    stopping: ['stopped', 'failed'],
    stopped: ['running'],
    failed: ['running'],
    completed: [],
  },
  agent: {
    spawning: ['running', 'failed', 'killed'],
    running: ['completed', 'failed', 'killed'],
    completed: [],
    failed: [],
    killed: [],
  },
  node: {
    pending: ['ready', 'skipped', 'cancelled'],
    ready: ['running', 'cancelled', 'skipped'],
    running: ['completed', 'failed', 'ready', 'suspended', 'cancelled'],
    suspended: ['ready', 'failed', 'cancelled'],
    completed: [],
    failed: ['pending'],
    skipped: ['pending'],
    cancelled: ['pending'],
  },
  worker: {
    idle: ['running', 'stopped'],
    running: ['draining', 'stopped'],
    draining: ['stopped'],
    stopped: [],
  },
  question: { open: ['answered', 'denied', 'cancelled'], answered: [], denied: [], cancelled: [] },
  order: { open: ['complete', 'incomplete'], incomplete: ['complete'], complete: [] },
};

describe.each(Object.entries(MACHINES))('R1 the %s table', (entity, table) => {
  const machine = table as StateMachine<string>;
  const published = PUBLISHED[entity] ?? {};

  it('has exactly the published states', () => {
    expect(statesOf(machine)).toEqual(Object.keys(published));
  });

  it.each(statesOf(machine).flatMap((from) => statesOf(machine).map((to) => [from, to] as const)))(
    '%s → %s is as published',
    (from, to) => {
      expect(isAllowed(machine, from, to)).toBe(published[from]?.includes(to) ?? false);
      expect(allowedFrom(machine, from).includes(to)).toBe(isAllowed(machine, from, to));
    },
  );

  it('refuses every self-transition and starts at a state that is not ended', () => {
    for (const state of statesOf(machine)) expect(isAllowed(machine, state, state)).toBe(false);
    expect(isEnded(machine, machine.initial)).toBe(false);
    expect(machine.entity).toBe(entity);
  });

  it('is drawn with every arrow', () => {
    const drawn = toMermaid(machine);
    const arrows = statesOf(machine).flatMap((from) =>
      allowedFrom(machine, from).map((to) => `${from} --> ${to}: `),
    );
    for (const arrow of arrows) expect(drawn).toContain(arrow);
    expect(drawn.split('\n')).toHaveLength(
      2 + arrows.length + statesOf(machine).filter((s) => allowedFrom(machine, s).length === 0).length,
    );
  });
});
