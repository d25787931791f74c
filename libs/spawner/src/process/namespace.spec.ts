import { inNamespace, namespaceMissing, readInit } from './namespace';

describe('R51 a PID namespace for an agent', () => {
  it('reads the report of init, and no other line', () => {
    expect(readInit('c00c1e init 42 123456', 'c00c1e')).toEqual({ pid: 42, startTime: '123456' });
    for (const line of [
      'c00c1e init 42 ',
      'c00c1e init 42 1 2',
      'c00c1e begun',
      'init 42 1',
      ' init 42 1',
      '',
    ])
      expect(readInit(line, 'c00c1e')).toBeUndefined();
    expect(readInit(' init 42 1', '')).toBeUndefined();
  });

  it('gives an ordinary user the rights for the mount of /proc only, and the command none of them', () => {
    const words = inNamespace(['2', '1'], false);
    expect(words.indexOf('--keep-caps')).toBeLessThan(words.indexOf('--mount-proc'));
    expect(words.lastIndexOf('--ambient-caps=-all')).toBeGreaterThan(words.indexOf('--mount-proc'));
    expect(inNamespace(['2', '1'], true).join(' ')).not.toMatch(/--user|-caps/);
  });

  it('names the program that is not there', () => {
    expect(namespaceMissing(['/bin/sh', '/nonexistent/unshare'])).toBe(
      '/nonexistent/unshare is not there: install util-linux and coreutils',
    );
  });
});
