import { spawn, type StdioOptions } from 'node:child_process';
import { CONTAINMENTS } from '#libs/contracts';
import { createProcessHost, type Containment, type ProcessHost } from '#libs/spawner';
import {
  joinLanes,
  median,
  perSecond,
  ratio,
  round,
  runLanes,
  spread,
  within,
  type BenchOptions,
  type BenchResult,
  type Lanes,
} from './measure';
import { makeTempDir } from './support/child';

const LANES = 8;
const SLICES = 4;
const WAIT_MS = 30_000;
let started = 0;

async function bareSpawn(stdio: StdioOptions): Promise<void> {
  const child = spawn('/bin/true', [], { detached: true, stdio });
  // /bin/true reads nothing.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end('{}');
  const ended = new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
  await within(WAIT_MS, 'the end of /bin/true', ended);
}

/** The limit: the least that starts a program and sees its exit. */
const bare = async (): Promise<void> => bareSpawn('ignore');
/** With the pipes an agent has: stdin, stdout, stderr and messages. */
const piped = async (): Promise<void> => bareSpawn(['pipe', 'pipe', 'pipe', 'pipe']);

async function ourSpawn(host: ProcessHost): Promise<void> {
  const agent = await host.spawn({
    agentId: `a${started++}`,
    command: ['/bin/true'],
    shell: false,
    env: {},
    stdin: '{}',
    graceMs: 100,
    onOutput: () => undefined,
    onMessage: () => undefined,
  });
  const { report } = await within(WAIT_MS, 'the proof of an end', agent.ended);
  if (!report.proved) throw new Error('an agent was not proved dead');
}

/** Each in slices, in turn. */
async function inTurn(
  lanes: number,
  rounds: number,
  works: readonly (() => Promise<void>)[],
): Promise<Lanes[]> {
  const runs: Lanes[][] = works.map(() => []);
  for (let slice = 0; slice < SLICES; slice++)
    for (const [i, work] of works.entries()) runs[i]?.push(await runLanes(lanes, rounds / SLICES, work));
  return runs.map(joinLanes);
}

interface Parts {
  readonly figures: Record<string, number>;
  readonly ratios: Record<string, number>;
  readonly limits: Record<string, number>;
}

async function measure(host: ProcessHost, name: Containment, { quick, least }: BenchOptions): Promise<Parts> {
  const rounds = least ? SLICES : quick ? 40 : 240;
  const each = quick ? 4 : 40;
  const works = [async () => ourSpawn(host), bare, piped];
  await inTurn(1, SLICES, works); // so that no first call counts
  const serial = await inTurn(1, rounds, works);
  const atOnce = await inTurn(LANES, each, works);
  const [ours, limit, withPipes] = serial.map(({ samples }) => median(samples)) as [number, number, number];
  const [oursAtOnce, limitAtOnce] = atOnce.map(({ ms }) => ms) as [number, number];
  const samples = (runs: readonly Lanes[], i: number): readonly number[] => runs[i]?.samples ?? [];
  const beside = `Beside${name[0]?.toUpperCase()}${name.slice(1)}`;
  return {
    figures: {
      ...spread(`${name}SpawnToProved`, samples(serial, 0)),
      ...spread(`${name}SpawnToProvedOf8`, samples(atOnce, 0)),
      [`${name}SpawnsOf8PerSecond`]: perSecond(each * LANES, oursAtOnce),
    },
    limits: {
      ...spread(`bareSpawn${beside}`, samples(serial, 1)),
      [`bareSpawnWithPipes${beside}MsP50`]: round(withPipes),
      [`bareSpawnsOf8${beside}PerSecond`]: perSecond(each * LANES, limitAtOnce),
    },
    ratios: {
      [name]: ratio(ours, limit),
      [`${name}ToBareWithPipes`]: ratio(ours, withPipes),
      [`${name}Of8`]: ratio(oursAtOnce, limitAtOnce),
    },
  };
}

/** From the request to the proof that the tree is gone, beside a bare spawn to its exit, in turn: alone and 8 at once. */
export async function benchSpawn(options: BenchOptions): Promise<BenchResult> {
  const all: Parts = { figures: {}, ratios: {}, limits: {} };
  for (const containment of CONTAINMENTS) {
    const dir = makeTempDir();
    const host = await createProcessHost({
      workerId: `bench-${containment}-${process.pid}`,
      dataDir: dir.path,
      containment,
      ownsProcess: true,
    }).catch(() => undefined); // no delegated cgroup on this machine
    try {
      if (host === undefined) continue;
      const parts = await measure(host, containment, options);
      for (const key of ['figures', 'ratios', 'limits'] as const) Object.assign(all[key], parts[key]);
    } finally {
      await host?.close();
      dir.remove();
    }
  }
  return { name: 'spawn', ...all };
}
