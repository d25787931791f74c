import { closeProcess } from './close-process';

// test/integration/walls.test.ts shows that it closes a process, where agents try to read one.
it('a process without libc stays open, and says why', () => {
  expect(closeProcess('off')).toBe('BELAY_NATIVE is off');
});
