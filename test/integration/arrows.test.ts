import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = join(__dirname, '../..');
const PROGRAM = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
const COMMAND = [PROGRAM, '--config', '.dependency-cruiser.cjs', '--output-type', 'json', 'libs', 'apps'];

interface Violation {
  readonly rule: { readonly name: string };
  readonly from: string;
}

function violationsIn(folder: string): Violation[] {
  const ran = spawnSync(process.execPath, COMMAND, {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: 100_000_000,
    timeout: 120_000,
  });
  const { summary } = JSON.parse(ran.stdout) as { summary: { violations: Violation[] } };
  return summary.violations;
}

/** One file for each rule, which breaks only that rule. */
const PLANTED: Record<string, { readonly file: string; readonly text: string }> = {
  'no-circles': {
    file: 'libs/contracts/src/index.ts',
    text: "export * from './round';\nexport const a = 1;\n",
  },
  'layer-contracts': { file: 'libs/contracts/src/up.ts', text: "import '#libs/valkey';\n" },
  'layer-valkey': { file: 'libs/valkey/src/up.ts', text: "import '#libs/lifecycle';\n" },
  'layer-local-server': { file: 'libs/local-server/src/up.ts', text: "import '#libs/lifecycle';\n" },
  'layer-lifecycle': { file: 'libs/lifecycle/src/up.ts', text: "import '../../dispatch/src/index';\n" },
  'layer-dispatch': { file: 'libs/dispatch/src/up.ts', text: "import '#libs/executions';\n" },
  'layer-spawner': { file: 'libs/spawner/src/up.ts', text: "import '#libs/dispatch';\n" },
  'layer-executions': { file: 'libs/executions/src/up.ts', text: "import '#libs/killswitch';\n" },
  'layer-approvals': { file: 'libs/approvals/src/up.ts', text: "import '#libs/worker';\n" },
  'layer-killswitch': { file: 'libs/killswitch/src/up.ts', text: "import '#libs/worker';\n" },
  'layer-orchestrator': { file: 'libs/orchestrator/src/up.ts', text: "import '#libs/worker';\n" },
  'layer-access': { file: 'libs/access/src/up.ts', text: "import '#libs/worker';\n" },
  'layer-worker': { file: 'libs/worker/src/up.ts', text: "import '#libs/client';\n" },
  'layer-service': { file: 'libs/service/src/up.ts', text: "import '#libs/client';\n" },
  'layer-metrics': { file: 'libs/metrics/src/up.ts', text: "import '#libs/client';\n" },
  'layer-tracing': { file: 'libs/tracing/src/up.ts', text: "import '#libs/worker';\n" },
  'layer-webhooks': { file: 'libs/webhooks/src/up.ts', text: "import '#libs/killswitch';\n" },
  'layer-client': { file: 'libs/client/src/up.ts', text: "import '#libs/valkey';\n" },
  'one-door': { file: 'libs/lifecycle/src/deep.ts', text: "import '../../valkey/src/inner';\n" },
  'programs-apart': { file: 'apps/cli/src/main.ts', text: "import '../../worker/src/main';\n" },
  'contracts-pure': { file: 'libs/contracts/src/io.ts', text: "import 'node:fs';\n" },
  'bullmq-in-dispatch': { file: 'libs/spawner/src/queue.ts', text: "import 'bullmq';\n" },
  'ioredis-in-valkey': { file: 'libs/killswitch/src/redis.ts', text: "import 'ioredis';\n" },
  'nest-not-in-client': { file: 'libs/client/src/nest.ts', text: "import '@nestjs/common';\n" },
  'no-tests-in-the-product': { file: 'libs/valkey/src/tested.ts', text: "import '../../../test/support';\n" },
  resolvable: { file: 'libs/valkey/src/nowhere.ts', text: "import './not-there';\n" },
};

describe('the arrows between libraries and programs', () => {
  it('are those of docs/architecture.md: no violation in the product', () => {
    expect(violationsIn(ROOT)).toEqual([]);
  });

  it('a violation of each rule is reported, and a rule without one here fails', () => {
    const folder = mkdtempSync(join(tmpdir(), 'belay-arrows-'));
    try {
      const write = (file: string, text: string): void => {
        mkdirSync(dirname(join(folder, file)), { recursive: true });
        writeFileSync(join(folder, file), text);
      };
      for (const name of ['package.json', '.dependency-cruiser.cjs', 'scripts/lib/layers.cjs'])
        cpSync(join(ROOT, name), join(folder, name));
      symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
      for (const name of 'valkey lifecycle dispatch spawner executions killswitch access approvals worker service client'.split(
        ' ',
      ))
        write(`libs/${name}/src/index.ts`, 'export const a = 1;\n');
      write('libs/contracts/src/round.ts', "import './index';\n");
      write('libs/valkey/src/inner.ts', 'export const a = 1;\n');
      write('apps/worker/src/main.ts', 'export const a = 1;\n');
      write('test/support.ts', 'export const a = 1;\n');
      for (const { file, text } of Object.values(PLANTED)) write(file, text);

      const found = violationsIn(folder).map(({ rule, from }) => `${rule.name}: ${from}`);
      for (const [rule, { file }] of Object.entries(PLANTED)) expect(found).toContain(`${rule}: ${file}`);

      const print =
        'console.log(JSON.stringify(require("./.dependency-cruiser.cjs").forbidden.map((r) => r.name)))';
      const rules = JSON.parse(
        execFileSync(process.execPath, ['-e', print], { cwd: ROOT, encoding: 'utf8' }),
      ) as string[];
      expect(Object.keys(PLANTED).sort()).toEqual(rules.sort());
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
