import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startFleet, type Fleet } from './fleet';

/** A fleet of two workers for all tests of a file, and a folder that its agents write into. */
export function useFleetAndFolder(
  env: Record<string, string>,
  onReady: (fleet: Fleet) => void,
): { file: (name: string) => string; lines: (name: string) => string[] } {
  let fleet: Fleet | undefined;
  let dir = '';
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'belay-fleet-folder-'));
    fleet = await startFleet({ workers: 2, env });
    onReady(fleet);
  });
  afterAll(async () => {
    await fleet?.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  const file = (name: string): string => join(dir, name);
  return { file, lines: (name) => readFileSync(file(name), 'utf8').trim().split('\n') };
}
