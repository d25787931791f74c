import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { readOrchestratorFile, type DataDir, type OrchestratorFile } from '../session/data-dir';
import { isLiving, startTimeOf } from '../session/living-process';

/** The interval of looks at a file that another `up` may have removed. Milliseconds. */
const LOOK_MS = 1_000;

/**
 * The file in which one `belay up` records its orchestrator for other commands. Of two on one data dir the first keeps its
 * record; the other writes its own when the first is gone.
 */
export class EndpointFile {
  private url: string | undefined;
  private looking: NodeJS.Timeout | undefined;

  constructor(private readonly dataDir: DataDir) {}

  /** Another live `up` whose record is there. */
  other(): OrchestratorFile | undefined {
    const left = readOrchestratorFile(this.dataDir);
    return left !== undefined && left.pid !== process.pid && isLiving(left) ? left : undefined;
  }

  /** Writes the record, now or once the other's is gone. */
  give(url: string): void {
    this.url = url;
    this.write();
    if (this.looking !== undefined) return;
    this.looking = setInterval(() => this.write(), LOOK_MS);
    this.looking.unref();
  }

  /** Removes the own record; another's stays. */
  takeBack(): void {
    clearInterval(this.looking);
    this.url = undefined;
    if (readOrchestratorFile(this.dataDir)?.pid === process.pid)
      rmSync(this.dataDir.orchestrator, { force: true });
  }

  /** Writes the file whole or not at all. */
  private write(): void {
    const { url, dataDir } = this;
    if (url === undefined || this.other() !== undefined) return;
    const left = readOrchestratorFile(dataDir);
    if (left?.pid === process.pid && left.url === url) return;
    const startTime = startTimeOf(process.pid);
    const word = { url, pid: process.pid, ...(startTime === undefined ? {} : { startTime }) };
    const next = `${dataDir.orchestrator}.${process.pid}`;
    try {
      writeFileSync(next, `${JSON.stringify(word)}\n`, { mode: 0o600 });
      renameSync(next, dataDir.orchestrator);
    } catch (error) {
      // Later looks try again. Only the first failure ends the start.
      if (this.looking === undefined) throw error;
    }
  }
}
