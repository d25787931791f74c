import { renderQuarantine } from './quarantine';

it('shows the place of a record, its fault and its beginning, without control characters', () => {
  const text = renderQuarantine(
    [
      {
        key: '{belay:0}:exe:exe_X:agents',
        field: 'agt_X-0-1',
        problem: 'it is not JSON',
        cut: '\u001b[31m{broken',
        firstSeenAt: Date.UTC(2026, 0, 2, 3, 4, 5),
      },
      { key: '{belay:ctl}:wrk:wrk_X', problem: 'state is missing', cut: '', firstSeenAt: 0 },
    ],
    160,
  );
  expect(text).toContain('{belay:0}:exe:exe_X:agents');
  expect(text).toContain('agt_X-0-1');
  expect(text).toContain('it is not JSON');
  expect(text).toContain('{broken');
  expect(text).not.toContain('\u001b[31m');
});
