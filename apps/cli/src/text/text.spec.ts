import { cleanLogLine, cleanText, withoutColour } from './clean-text';
import { count, formatCost, formatDuration, formatTime } from './format';
import { listProblems } from './list-problems';
import { renderTable } from './table';
import { cut, displayWidth } from './width';

describe('text from elsewhere', () => {
  it('cannot move the cursor, forge a line or ring a bell', () => {
    expect(cleanText('a\u001b[2Jb\nc\u0007\u009b1m')).toBe('a[2Jb c1m');
  });

  it('shows what hides, or turns the text round', () => {
    expect(cleanText('exe\u202egpj.\u200bsh\ufeff')).toBe('exe<U+202E>gpj.<U+200B>sh<U+FEFF>');
    expect(cleanText('\u0645\u200d \u00e9 \u{1f600}')).toBe('\u0645\u200d \u00e9 \u{1f600}');
  });

  it('keeps the colours of a log line and nothing else', () => {
    expect(cleanLogLine('\u001b[31mred\u001b[2J\u001b]0;title\u0007')).toBe(
      '\u001b[31mred[2J]0;title\u001b[0m',
    );
    expect(cleanLogLine('plain\ttext')).toBe('plain\ttext');
    expect(withoutColour('\u001b[1mx\u001b[0m')).toBe('x');
  });
});

describe('widths', () => {
  it('counts columns, not characters', () => {
    expect(displayWidth('abc')).toBe(3);
    expect(displayWidth('日本')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(displayWidth('\u001b[31mx\u001b[39m')).toBe(1);
  });

  it('cuts with an ellipsis in the last column', () => {
    expect(cut('abcdef', 6)).toBe('abcdef');
    expect(cut('abcdef', 4)).toBe('abc…');
    expect(cut('日本語', 4)).toBe('日…');
    expect(cut('abc', 0)).toBe('');
  });
});

describe('numbers', () => {
  it.each([
    [0, '0 ms'],
    [-5, '0 ms'],
    [340.4, '340 ms'],
    [4_200, '4.2 s'],
    [59_949, '59.9 s'],
    [59_960, '1 min 0 s'],
    [200_000, '3 min 20 s'],
    [7_500_000, '2 h 5 min'],
    [273_600_000, '3 d 4 h'],
  ])('%i ms reads %s', (ms, text) => expect(formatDuration(ms)).toBe(text));

  it('shows costs, times and counts', () => {
    expect([0, 0.0042, 1.254].map(formatCost)).toEqual(['$0', '$0.0042', '$1.25']);
    expect(formatTime(Date.UTC(2026, 10, 21, 2, 30, 1))).toBe('2026-11-21 02:30:01Z');
    expect(formatTime(NaN)).toBe('-');
    expect([count(1, 'node'), count(2, 'node')]).toEqual(['1 node', '2 nodes']);
  });
});

it('lists problems in aligned columns', () => {
  expect(
    listProblems([
      { path: 'nodes[3].dependsOn[0]', code: 'UNKNOWN_NODE', message: 'there is no node "x".' },
      { path: '', code: 'CYCLE', message: 'a → b → a' },
    ]),
  ).toEqual([
    'nodes[3].dependsOn[0]  UNKNOWN_NODE  there is no node "x".',
    '(the whole spec)       CYCLE         a → b → a',
  ]);
});

describe('a table', () => {
  const shape = { head: ['ID', 'NAME', 'N'], rows: [['1', 'a long, long name', '22']], flexible: 1 };

  it('has no lines and no trailing space', () => {
    expect(renderTable({ ...shape, width: Infinity })).toBe(
      'ID  NAME               N\n1   a long, long name  22',
    );
  });

  it('keeps ids whole, cuts words, and leaves out columns that do not fit', () => {
    const ids = {
      head: ['EXECUTION', 'NAME', 'STATE', 'COST'],
      rows: [['exe_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'nightly-export', 'completed-long', '$1.25']],
      flexible: 1,
    };
    for (const width of [60, 50, 44, 30])
      for (const line of renderTable({ ...ids, width }).split('\n'))
        expect(displayWidth(line)).toBeLessThanOrEqual(width);
    expect(renderTable({ ...ids, width: 58 }).split('\n')[1]).toBe(
      'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV  nightly…  complete…  $1.25',
    );
    expect(renderTable({ ...ids, width: 46 }).split('\n')[1]).toBe(
      'exe_01ARZ3NDEKTSV4RRFFQ69G5FAV  nightly…  com…',
    );
  });

  it('leaves out a column of ids rather than cut it', () => {
    const agents = {
      head: ['NODE', 'STATE', 'AGENT'],
      rows: [['a-node-with-a-name', 'running', 'agt_01ARZ3NDEKTSV4RRFFQ69G5FAV-0-1']],
      flexible: 0,
    };
    expect(renderTable({ ...agents, width: 50 })).toBe('NODE      STATE\na-node-…  running');
  });

  it('cuts its flexible column to the terminal', () => {
    expect(renderTable({ ...shape, width: 18 })).toBe('ID  NAME        N\n1   a long, l…  22');
  });
});
