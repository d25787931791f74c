import { gzipSync } from 'node:zlib';
import { InvalidSpecError } from '#libs/contracts';
import { parseSpecText, type SpecTextOptions } from './parse-spec-text';
import { MAX_FILE_BYTES } from './read-bytes';

function told(source: string | Uint8Array, options?: SpecTextOptions): string[] {
  try {
    parseSpecText(source, options);
    return [];
  } catch (error) {
    if (!(error instanceof InvalidSpecError)) throw error;
    return error.problems.map(({ code, message }) => `${code} ${message}`);
  }
}

const utf8 = (text: string) => new TextEncoder().encode(text);

describe('a spec file', () => {
  it.each<[string, string | Uint8Array, SpecTextOptions?]>([
    ['YAML', 'name: ü\nnodes: [1, "2", yes]'],
    ['JSON', '{"name":"ü","nodes":[1,"2","yes"]}'],
    ['JSON by its name', '{"name":"ü","nodes":[1,"2","yes"]}', { fileName: 'x.JSON' }],
    ['YAML that begins like JSON', '{name: ü, nodes: [1, "2", yes]}'],
    ['bytes', utf8('name: ü\nnodes: [1, "2", yes]')],
    ['a byte order mark, in text', '\uFEFFname: ü\nnodes: [1, "2", yes]'],
    ['a byte order mark, in bytes', utf8('\uFEFF{"name":"ü","nodes":[1,"2","yes"]}'), { fileName: 'x.json' }],
    ['gzip', gzipSync('{"name":"ü","nodes":[1,"2","yes"]}'), { fileName: 'x.json.gz' }],
    ['an anchor and its alias', 'name: &n ü\nnodes: [1, "2", yes]\n'],
  ])('may be %s', (_, source, ...[options]) => {
    expect(parseSpecText(source, options)).toEqual({ name: 'ü', nodes: [1, '2', 'yes'] });
  });

  it('keeps __proto__ as an own key, for validation to refuse', () => {
    for (const text of ['__proto__: { polluted: 1 }', '{"__proto__":{"polluted":1}}']) {
      expect(Object.keys(parseSpecText(text) as object)).toEqual(['__proto__']);
    }
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('reads numbers as keys as text, as JSON has it', () => {
    expect(parseSpecText('1: a')).toEqual({ '1': 'a' });
  });
});

describe('is refused', () => {
  const JSON_FILE = { fileName: 'spec.json' };

  it.each<[string, string | Uint8Array, string[], SpecTextOptions?]>([
    ['nothing', ' \n', ['SYNTAX the file is empty; write an execution spec into it.']],
    ['only a comment', '# later', ['SYNTAX the file is empty; write an execution spec into it.']],
    [
      'Latin-1',
      Uint8Array.of(0x61, 0x3a, 0x20, 0xfc),
      ['NOT_UTF8 the file is not UTF-8 text (byte 3); save it as UTF-8.'],
    ],
    [
      'Latin-1 after good UTF-8',
      Uint8Array.of(...utf8('a: üü '), 0xfc, 0x61),
      ['NOT_UTF8 the file is not UTF-8 text (byte 8); save it as UTF-8.'],
    ],
    [
      'a key twice',
      'name: a\nnodes: []\nname: b\n',
      ['DUPLICATE_KEY line 3, column 1: this key is in its mapping already; name it once.'],
    ],
    [
      'a missing quote',
      'name: "a\n',
      ['SYNTAX the file is not YAML: line 2, column 1: Missing closing "quote.'],
    ],
    [
      'a tab',
      'a:\n\tb: 1',
      ['SYNTAX the file is not YAML: line 2, column 1: Tabs are not allowed as indentation.'],
    ],
    [
      'a tag nobody knows',
      'a: !secret x',
      ['SYNTAX the file is not YAML: line 1, column 4: Unresolved tag: !secret.'],
    ],
    [
      'two documents',
      'a: 1\n---\na: 2',
      ['SYNTAX the file has 2 documents; keep one, without "---" between.'],
    ],
    [
      'an alias without an anchor',
      'a: *base',
      ['SYNTAX the file is not YAML: no anchor &base stands before its alias *base.'],
    ],
    [
      'a list as a key',
      '? [a, b]\n: 1',
      ['SYNTAX the file is not YAML: line 1, column 3: With stringKeys, all keys must be strings.'],
    ],
    [
      'JSON cut off',
      '{\n "name": ',
      ['SYNTAX the file is not JSON: line 2, column 10: Unexpected end of JSON input.'],
      JSON_FILE,
    ],
    [
      'JSON with a comma too many',
      '{\n "a": 1,\n}',
      ['SYNTAX the file is not JSON: line 3, column 1: Expected double-quoted property name.'],
      JSON_FILE,
    ],
    [
      'JSON that is no JSON',
      'name: x',
      [`SYNTAX the file is not JSON: Unexpected token 'a', "name: x" is not valid JSON.`],
      JSON_FILE,
    ],
    [
      'YAML that begins like JSON',
      '{a: 1',
      ['SYNTAX the file is not YAML: line 1, column 6: Flow map must end with a }.'],
    ],
  ])('%s', (_, source, expected, ...[options]) => {
    expect(told(source, options)).toEqual(expected);
  });

  it('damaged gzip', () => {
    const packed = gzipSync('name: x');
    expect(told(packed.subarray(0, packed.length - 9))).toEqual([
      'BAD_GZIP the file is damaged gzip (unexpected end of file); pack it again.',
    ]);
  });

  it('a gzip bomb, without unpacking it whole', () => {
    const bomb = gzipSync(Buffer.alloc(MAX_FILE_BYTES + 1));
    expect(bomb.length).toBeLessThan(100_000);
    expect(told(bomb)).toEqual(['TOO_LARGE the file is larger than 64 MiB; split it up.']);
  });

  it('more bytes or characters than a file may have', () => {
    const expected = ['TOO_LARGE the file is larger than 64 MiB; split it up.'];
    expect(told(Buffer.alloc(MAX_FILE_BYTES + 1))).toEqual(expected);
    expect(told(' '.repeat(MAX_FILE_BYTES + 1))).toEqual(expected);
  });

  it('aliases that would unfold to a hundred billion nodes', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 12; i++)
      lines.push(
        `a${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      );
    expect(told(lines.join('\n'))).toEqual([
      "TOO_LARGE the file's aliases unfold more than 1000 times; write some of them out.",
    ]);
  });

  it('with at most ten faults, as one missing quote can make a hundred', () => {
    const text = Array.from({ length: 50 }, () => 'a: !t x').join('\n');
    expect(told(text)).toHaveLength(10);
  });
});
