import { formatPath, ProblemList } from './problem-list';

describe('a path', () => {
  it.each<[(string | number)[], string]>([
    [[], ''],
    [['nodes', 3, 'dependsOn', 0], 'nodes[3].dependsOn[0]'],
    [['labels', 'a b'], 'labels["a b"]'],
    [[0, 'x'], '[0].x'],
    [['a\n"b'], '["a\\n\\"b"]'],
    [['$', '_x'], '$._x'],
  ])('%j reads %s', (path, text) => {
    expect(formatPath(path)).toBe(text);
  });
});

describe('a list of problems', () => {
  it('says nothing of a rest it does not have, and counts one rightly', () => {
    const list = new ProblemList();
    for (let i = 0; i < 100; i++) list.add(['nodes', i], 'TYPE', () => `message ${i}`);
    expect(list.toArray()).toHaveLength(100);
    expect(list.toArray()[99]).toEqual({ path: 'nodes[99]', code: 'TYPE', message: 'message 99' });
    list.add([], 'TYPE', () => {
      throw new Error('a message that nobody will read was built');
    });
    expect(list.count).toBe(101);
    expect(list.toArray().at(-1)?.message).toBe('1 more problem is not listed; repair these first.');
  });
});
