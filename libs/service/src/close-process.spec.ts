import { closeProcess } from './close-process';

// That it closes a process is shown where agents try to read one: test/integration/walls.test.ts.
it('a process without libc stays open, and says why', () => {
  expect(closeProcess('off')).toBe('BELAY_NATIVE is off');
});
