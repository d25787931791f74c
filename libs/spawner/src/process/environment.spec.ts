import { allowedEnvironment, withoutNpmFolders } from './environment';

const GYP = '/usr/lib/node_modules/npm/node_modules/@npmcli/run-script/lib/node-gyp-bin';

describe('the PATH of agents', () => {
  it.each([
    ['npm start', `/app/node_modules/.bin:/node_modules/.bin:${GYP}:/usr/bin:/bin`, '/usr/bin:/bin'],
    [
      'npx in npm start',
      `/home/u/.npm/_npx/1/node_modules/.bin:/node_modules/.bin:${GYP}:/app/node_modules/.bin:${GYP}:/usr/bin`,
      '/usr/bin',
    ],
    ['a person', '/app/node_modules/.bin:/usr/bin', '/app/node_modules/.bin:/usr/bin'],
    ['a person, behind', `/usr/bin:${GYP}`, `/usr/bin:${GYP}`],
    ['nobody', '', ''],
  ])('is the one from before npm: %s', (_name, path, expected) => {
    expect(withoutNpmFolders(path)).toBe(expected);
    expect(allowedEnvironment({ PATH: path, SECRET: 'x' })).toEqual({ PATH: expected });
  });

  it('has a default', () => {
    expect(allowedEnvironment({})).toEqual({ PATH: '/usr/local/bin:/usr/bin:/bin' });
  });
});
