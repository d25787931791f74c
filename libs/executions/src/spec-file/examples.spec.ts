import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  isHandlerRun,
  parseAgentMessage,
  validateSpec,
  type CommandRun,
  type ExecutionSpec,
  type NodeSpec,
} from '#libs/contracts';
import { convertWfFormat, isWfFormat, parseSpecText } from './index';

const FOLDER = join(__dirname, '../../../../examples');
const files = readdirSync(FOLDER).filter((name) => /\.(ya?ml|json)$/.test(name));

function read(file: string): ExecutionSpec {
  const raw = parseSpecText(readFileSync(join(FOLDER, file)), { fileName: file });
  return validateSpec(isWfFormat(raw) ? convertWfFormat(raw, { timeScale: 0.5 }).spec : raw);
}

const nodeOf = (file: string, id: string) => read(file).nodes.find((node) => node.id === id) as NodeSpec;

/** No example has a handler, which would need its application. */
function commandOf({ run }: NodeSpec): CommandRun {
  if (isHandlerRun(run)) throw new Error(`${run.handler} is a handler`);
  return run;
}

/** Runs one agent by itself, with file descriptor 3 on a file. Returns how it ended and its messages. */
function runAgent(node: NodeSpec, attempt: number) {
  const folder = mkdtempSync(join(tmpdir(), 'belay-example-'));
  try {
    const messages = join(folder, 'messages');
    const run = commandOf(node);
    const [program, ...args] = run.command as [string, ...string[]];
    const { status } = spawnSync(program, args, {
      env: {
        ...process.env,
        ...run.env,
        BELAY_NODE_ID: node.id,
        BELAY_ATTEMPT: String(attempt),
      },
      input: JSON.stringify({ input: node.input ?? null, upstream: {} }),
      stdio: ['pipe', 'ignore', 'ignore', openSync(messages, 'w')],
      timeout: 20_000,
    });
    const lines = readFileSync(messages, 'utf8').split('\n').filter(Boolean);
    return { status, messages: lines.map(parseAgentMessage) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('examples', () => {
  it('are all here', () => {
    expect(files).toEqual(
      expect.arrayContaining(['deaf.yaml', 'first-run.yaml', 'retry.yaml', 'workflow.wfformat.json']),
    );
  });

  it.each(files)('%s is a valid spec', (file) => {
    expect(read(file).nodes.length).toBeGreaterThan(0);
  });

  it.each(files)('%s has agents in plain sh that parse', (file) => {
    for (const node of read(file).nodes) {
      const [program, flag, script] = commandOf(node).command;
      if (program !== 'sh') continue;
      expect(flag).toBe('-c');
      const { status, stderr } = spawnSync('sh', ['-n', '-c', script as string], { encoding: 'utf8' });
      expect([status, stderr]).toEqual([0, '']);
    }
  });

  it('first-run takes ten to fifteen seconds end to end', () => {
    const { nodes } = read('first-run.yaml');
    const ends = new Map<string, number>();
    for (const node of nodes) {
      const start = Math.max(0, ...node.dependsOn.map((parent) => ends.get(parent) as number));
      ends.set(node.id, start + Number(commandOf(node).env['STEPS']));
    }
    const total = Math.max(...ends.values());
    expect(total).toBeGreaterThanOrEqual(10);
    expect(total).toBeLessThanOrEqual(15);
  });

  it('first-run has agents that report progress, cost and a result', () => {
    const { status, messages } = runAgent(nodeOf('first-run.yaml', 'publish'), 1);
    expect(status).toBe(0);
    expect(messages).toEqual([
      { type: 'progress', value: { done: 1, total: 1, doing: 'publishing' } },
      { type: 'cost', usd: 0.001 },
      { type: 'result', value: { by: 'publish', steps: 1, read: 48 } },
    ]);
  });

  it('retry fails twice and then succeeds', () => {
    const flaky = nodeOf('retry.yaml', 'flaky');
    expect([1, 2, 3].map((attempt) => runAgent(flaky, attempt).status)).toEqual([1, 1, 0]);
    expect(runAgent(flaky, 3).messages).toEqual([{ type: 'result', value: { attempts: 3 } }]);
  });
});
