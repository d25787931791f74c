import type { SeenProcess } from '#libs/contracts';
import { eventually } from '../../../../test/support/wait';
import { TreeEnding, type EndTreeOptions } from './end-tree';
import type { PidStart } from './proc-stat';
import type { ProcessTree } from './process-tree';
import type { StopRecord } from './stop-record';
import { TimeSliceQueue } from './time-slice-queue';

/** A process of a simulated tree: its name says what it does when it is signalled. */
interface Member extends PidStart {
  readonly name: 'leader' | 'polite' | 'deaf' | 'undying';
  /** Found only by a search, or by a look for the proof. */
  readonly hidden?: boolean;
}

const member = (pid: number, name: Member['name'], hidden = false): Member => ({
  pid,
  startTime: String(pid),
  name,
  hidden,
});

class FakeTree implements ProcessTree {
  readonly containment = 'marks';
  readonly leader: Member;
  readonly signals: string[] = [];
  private readonly living: Set<Member>;
  private readonly found = new Set<Member>();

  constructor(
    members: readonly Member[],
    private readonly onExit: () => void,
  ) {
    this.leader = members[0] as Member;
    this.living = new Set(members);
    for (const one of members) if (one.hidden !== true) this.found.add(one);
  }

  get alive(): number[] {
    return [...this.living].map(({ pid }) => pid);
  }

  markReaped(): void {}

  terminate(record: StopRecord): void {
    record.sent('SIGTERM', 'group');
    this.signal('SIGTERM', ({ name }) => name === 'polite' || name === 'leader');
  }

  terminateFound(): void {}

  kill(record: StopRecord): void {
    record.sent('SIGKILL', 'group');
    this.signal('SIGKILL', ({ name }) => name !== 'undying');
  }

  private signal(name: string, ends: (one: Member) => boolean): void {
    for (const one of this.found) {
      if (!this.living.has(one)) continue;
      this.signals.push(`${name} ${one.pid}`);
      if (!ends(one)) continue;
      this.living.delete(one);
      if (one === this.leader) this.onExit();
    }
  }

  async search(): Promise<void> {
    for (const one of this.living) this.found.add(one);
  }

  quiet(): boolean {
    return ![...this.found].some((one) => this.living.has(one));
  }

  async proveEmpty(record: StopRecord): Promise<boolean> {
    await this.search();
    if (this.quiet()) record.proof('sweep-empty');
    return this.quiet();
  }

  onChange(): () => void {
    return () => undefined;
  }

  async freeze(): Promise<void> {}
  thaw(): void {}
  processes(): SeenProcess[] {
    return [...this.found].filter((one) => this.living.has(one));
  }

  dispose(): boolean {
    return true;
  }
}

function ending(members: readonly Member[], options: Partial<EndTreeOptions> = {}) {
  const tree: FakeTree = new FakeTree(members, () => ladder.firstProcessExited());
  const ladder = new TreeEnding(
    tree,
    { cause: 'graceful', graceMs: 20, killWaitMs: 60_000, ...options },
    new TimeSliceQueue(),
  );
  return { tree, ladder };
}

describe('R12 R51 the ladder of a stop', () => {
  it('sends no SIGKILL to a tree that obeys, and proves it', async () => {
    const { tree, ladder } = ending([member(1, 'leader'), member(2, 'polite')], { graceMs: 60_000 });
    expect(await ladder.run()).toBe(true);
    expect(tree.signals).toEqual(['SIGTERM 1', 'SIGTERM 2']);
    expect(ladder.record.report([])).toMatchObject({ proved: true, escalated: false });
  });

  it('sends SIGKILL after the grace, and as soon as it is hastened', async () => {
    for (const graceMs of [20, 20_000]) {
      const { tree, ladder } = ending([member(1, 'deaf')], { graceMs });
      const ended = ladder.run();
      if (graceMs > 20) {
        await eventually(() => tree.signals.length > 0, 'SIGTERM');
        ladder.shorten(0);
        await eventually(() => tree.alive.length === 0, 'the end of it', 5_000);
      }
      expect(await ended).toBe(true);
      expect(tree.signals).toEqual(['SIGTERM 1', 'SIGKILL 1']);
    }
  });

  it('in mode immediate sends SIGKILL alone, whatever the grace', async () => {
    const { tree, ladder } = ending([member(1, 'leader')], { cause: 'immediate', graceMs: 500 });
    expect(await ladder.run()).toBe(true);
    expect(tree.signals).toEqual(['SIGKILL 1']);
  });

  it('proves nothing by quiet: a hidden process is found, asked and killed before the tree counts as dead', async () => {
    const { tree, ladder } = ending([member(1, 'leader'), member(2, 'deaf', true)], { graceMs: 50 });
    expect(await ladder.run()).toBe(true);
    expect(tree.alive).toEqual([]);
    expect(ladder.record.report([])).toMatchObject({ proved: true, escalated: true });
  });

  it('finds and kills a hidden process although another one of the tree does not die', async () => {
    const { tree, ladder } = ending([member(1, 'leader'), member(2, 'undying'), member(3, 'deaf', true)], {
      cause: 'immediate',
      killWaitMs: 300,
    });
    expect(await ladder.run()).toBe(false);
    expect(tree.alive).toEqual([2]);
    expect(tree.signals.filter((signal) => signal === 'SIGKILL 2').length).toBeGreaterThan(1);
  });

  it('gives up after its bound without a proof, and goes on in the background', async () => {
    const { tree, ladder } = ending([member(1, 'leader'), member(2, 'undying')], { killWaitMs: 10 });
    expect(await ladder.run()).toBe(false);
    expect(ladder.record.report(tree.processes())).toMatchObject({ proved: false, survivors: [{ pid: 2 }] });
    const trying = ladder.keepTrying();
    ladder.close();
    expect(await trying).toBe(false);
  });
});
