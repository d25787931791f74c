import { execFileSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HOSTS_FOLDER } from './host-record';
import { reapDeadWorkers } from './reap-dead-workers';
import { openOwnToAppend, readOwnFile, replaceOwnFile } from './own-file';
import { collectProofs, proofPath, writeProof } from './worker-proof';

let dir: string;
let warned: jest.SpyInstance;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'belay-own-'));
  warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});
afterEach(() => {
  warned.mockRestore();
  rmSync(dir, { recursive: true, force: true });
});

/** Everything that an agent of the same user can put in the place of a file. */
const PLANTED: readonly [string, (path: string) => void][] = [
  ['a FIFO', (path) => void execFileSync('mkfifo', [path])],
  ['a link to a file', (path) => (writeFileSync(`${path}.aim`, '{}'), symlinkSync(`${path}.aim`, path))],
  ['a link to nothing', (path) => symlinkSync(`${path}.nothing`, path)],
  ['a second name of a file', (path) => (writeFileSync(`${path}.aim`, '{}'), linkSync(`${path}.aim`, path))],
  ['a folder', (path) => mkdirSync(path)],
];

describe.each(PLANTED)('R17 %s that an agent put in the place of a file', (_, plant) => {
  it('is neither read nor written, and delays nothing', () => {
    const path = join(dir, 'file');
    plant(path);
    expect(() => readOwnFile(path)).toThrow(path);
    expect(() => openOwnToAppend(path)).toThrow(path);
  });

  it('does not lead a new file elsewhere', () => {
    const path = join(dir, 'file');
    plant(`${path}.new`);
    plant(path);
    replaceOwnFile(path, 'ours');
    expect(readFileSync(path, 'utf8')).toBe('ours');
  });

  it('as a proof or a record keeps no worker from looking at the others, and is told once', async () => {
    const hosts = join(dir, HOSTS_FOLDER);
    mkdirSync(hosts);
    plant(proofPath(dir, 'a-0'));
    plant(join(hosts, 'a-1.json'));
    writeProof(proofPath(dir, 'w'), { workerId: 'w', containment: 'marks', processes: [], by: 'guardian' });
    const told: string[] = [];
    const collect = async () => collectProofs(dir, async ({ workerId }) => void told.push(workerId));
    await collect();
    await collect();
    expect(told).toEqual(['w']);
    expect(await reapDeadWorkers(dir)).toEqual([]);
    expect(warned.mock.calls.filter(([text]) => String(text).includes('a-1.json')).length).toBeLessThan(2);
  });
});

it('R17 a file is not read without end', () => {
  const path = join(dir, 'large');
  writeFileSync(path, '');
  truncateSync(path, 1024 * 1024 * 1024);
  expect(() => readOwnFile(path)).toThrow('1073741824 bytes');
});
