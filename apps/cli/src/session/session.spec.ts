import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EndpointFile } from '../up/endpoint-file';
import { ensureToken, openLog, prepareDataDir } from '../up/prepare-data-dir';
import { dataDirAt, readOrchestratorFile } from './data-dir';
import { findConnection } from './find-connection';
import { startTimeOf } from './living-process';
import { createStyle, wantsColour } from './style';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'belay-cli-'));
  mkdirSync(join(cwd, '.belay'));
  writeFileSync(join(cwd, '.belay', 'token'), 'kept\n', { mode: 0o600 });
});
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

describe('the connection', () => {
  it('is the default with the token of the data dir', () => {
    expect(findConnection(cwd, {}, {})).toMatchObject({
      url: 'http://127.0.0.1:7070',
      urlFrom: 'the default',
      token: 'kept',
      tokenFrom: '.belay/token',
    });
  });

  it('follows the file of `up`, then BELAY_URL, then --url', () => {
    writeFileSync(join(cwd, '.belay', 'orchestrator.json'), '{"url":"http://127.0.0.1:1234","pid":1}');
    const env = { BELAY_URL: 'http://127.0.0.1:2345' };
    expect(findConnection(cwd, {}, {}).url).toBe('http://127.0.0.1:1234');
    expect(findConnection(cwd, env, {}).url).toBe('http://127.0.0.1:2345');
    expect(findConnection(cwd, env, { url: 'http://127.0.0.1:3456' }).url).toBe('http://127.0.0.1:3456');
  });

  it('takes --token-file, then BELAY_TOKEN', () => {
    writeFileSync(join(cwd, 'other'), 'from-file');
    expect(findConnection(cwd, { BELAY_TOKEN: 'env' }, {}).token).toBe('env');
    expect(findConnection(cwd, { BELAY_TOKEN: 'env' }, { tokenFile: join(cwd, 'other') }).token).toBe(
      'from-file',
    );
    expect(() => findConnection(cwd, {}, { tokenFile: join(cwd, 'absent') })).toThrow('is missing or empty.');
  });

  it('does not send the token of this machine to another', () => {
    for (const url of ['http://10.0.0.1:7070', 'http://127.0.0.1.evil.example:7070', 'nonsense']) {
      expect(findConnection(cwd, {}, { url }).token).toBeUndefined();
    }
    expect(findConnection(cwd, { BELAY_TOKEN: 'meant' }, { url: 'http://10.0.0.1:7070' }).token).toBe(
      'meant',
    );
    expect(findConnection(cwd, {}, { url: 'http://localhost:7070' }).token).toBe('kept');
  });

  it('ignores a damaged word of `up`', () => {
    const dataDir = dataDirAt(cwd, {}, undefined);
    for (const text of ['', 'null', '{"url":1}', '[]']) {
      writeFileSync(dataDir.orchestrator, text);
      expect(readOrchestratorFile(dataDir)).toBeUndefined();
    }
  });
});

describe('the data dir', () => {
  const mode = (path: string): number => statSync(path).mode & 0o777;

  it('is closed to others, and so is the token, which is made once', () => {
    chmodSync(join(cwd, '.belay'), 0o755);
    chmodSync(join(cwd, '.belay', 'token'), 0o644);
    const dataDir = dataDirAt(cwd, {}, undefined);
    prepareDataDir(dataDir);
    expect(ensureToken(dataDir, undefined)).toBe('kept');
    expect([dataDir.path, dataDir.logs, dataDir.token].map(mode)).toEqual([0o700, 0o700, 0o600]);
    rmSync(dataDir.token);
    const token = ensureToken(dataDir, undefined);
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(ensureToken(dataDir, undefined)).toBe(token);
    expect(mode(dataDir.token)).toBe(0o600);
    expect(ensureToken(dataDir, 'given')).toBe('given');
  });

  it('keeps word of the orchestrator until its own `up` takes it back', () => {
    const dataDir = dataDirAt(cwd, {}, undefined);
    const word = new EndpointFile(dataDir);
    word.give('http://127.0.0.1:1');
    expect(readOrchestratorFile(dataDir)).toMatchObject({ url: 'http://127.0.0.1:1', pid: process.pid });
    expect(mode(dataDir.orchestrator)).toBe(0o600);
    word.takeBack();
    expect(readOrchestratorFile(dataDir)).toBeUndefined();
  });

  it('leaves the word of another `up` that lives, and takes the place of one that does not', () => {
    const dataDir = dataDirAt(cwd, {}, undefined);
    const word = new EndpointFile(dataDir);
    const other = {
      url: 'http://127.0.0.1:2',
      pid: process.ppid,
      startTime: startTimeOf(process.ppid) ?? '',
    };
    writeFileSync(dataDir.orchestrator, JSON.stringify(other));
    word.give('http://127.0.0.1:1');
    expect(word.other()).toEqual(other);
    word.takeBack();
    expect(readOrchestratorFile(dataDir)).toEqual(other);
    writeFileSync(dataDir.orchestrator, JSON.stringify({ ...other, startTime: '1' }));
    word.give('http://127.0.0.1:1');
    expect(readOrchestratorFile(dataDir)?.url).toBe('http://127.0.0.1:1');
    word.takeBack();
  });

  it.each([
    ['.belay/token/x', 'a part of its path is a file'],
    ['.belay/token', 'it is a file'],
  ])('says why it cannot be made: %s, %s', (path, why) => {
    expect(() => prepareDataDir(dataDirAt(cwd, {}, path))).toThrow(
      new RegExp(`^The data dir .*${path} cannot be used: ${why}.* Name another: --data-dir PATH$`),
    );
  });

  it('R17 does not wait where an agent put a FIFO or a link in the place of a log', () => {
    const dataDir = dataDirAt(cwd, {}, undefined);
    prepareDataDir(dataDir);
    const log = join(dataDir.logs, 'worker.log');
    const others = join(cwd, 'a file of the user');
    writeFileSync(others, 'untouched');
    const plants = [() => execFileSync('mkfifo', [log]), () => symlinkSync(others, log)];
    for (const plant of plants) {
      rmSync(log, { force: true });
      plant();
      const fd = openLog(log);
      writeSync(fd, 'line\n');
      closeSync(fd);
      expect(lstatSync(log).isFile()).toBe(true);
      expect(readFileSync(log, 'utf8')).toBe('line\n');
    }
    expect(readFileSync(others, 'utf8')).toBe('untouched');
  });
});

it('colours a terminal, unless someone said no', () => {
  const tty = { isTTY: true };
  expect(wantsColour(tty, {}, true)).toBe(true);
  expect(wantsColour({ isTTY: false }, {}, true)).toBe(false);
  expect(wantsColour(tty, { NO_COLOR: '1' }, true)).toBe(false);
  expect(wantsColour(tty, { TERM: 'dumb' }, true)).toBe(false);
  expect(wantsColour(tty, {}, false)).toBe(false);
  expect(createStyle(true).state('failed')).toBe('\u001b[31mfailed\u001b[39m');
  expect(createStyle(false).state('failed')).toBe('failed');
});
