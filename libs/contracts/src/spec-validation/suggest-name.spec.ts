import { NameSuggester } from './suggest-name';

const near = (wrong: string, ...known: string[]) => new NameSuggester().nearest(wrong, known);

describe('the nearest name', () => {
  it.each([
    ['dependOn', 'dependsOn'],
    ['depends_on', 'dependsOn'],
    ['DEPENDSON', 'dependsOn'],
    ['depends', 'dependsOn'],
    ['dependsno', 'dependsOn'],
    ['timeout', 'timeoutMs'],
    ['timoutMs', 'timeoutMs'],
    ['labesl', 'labels'],
    ['label', 'labels'],
  ])('%s is %s', (wrong, right) => {
    expect(near(wrong, 'id', 'run', 'dependsOn', 'timeoutMs', 'labels')).toBe(right);
  });

  it.each(['x', 'ru', 'needs', 'labelling', 'a'.repeat(500), ''])('%s is like none', (wrong) => {
    expect(near(wrong, 'id', 'run', 'dependsOn', 'timeoutMs', 'labels')).toBeUndefined();
  });

  it('is the one with the fewest edits, the first of equals', () => {
    expect(near('abcdef', 'abcdxx', 'abcdex', 'abcxef')).toBe('abcdex');
  });

  it('is looked for within a budget, so that a huge graph full of mistakes stays fast', () => {
    const suggester = new NameSuggester();
    const many = Array.from({ length: 199_999 }, (_, i) => `node-${i}`);
    expect(suggester.nearest('fetcg', [...many, 'fetch'])).toBe('fetch');
    expect(suggester.nearest('fetcg', ['fetch'])).toBeUndefined();
  });
});
