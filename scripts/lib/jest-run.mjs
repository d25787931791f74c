// One run of jest, counted from its own report and not from its printed text.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { run } from './run.mjs';
import { ROOT } from './setup.mjs';

const JEST_TIMEOUT_MS = 3_600_000;
const NOISE = /^Test results written to: /;

/**
 * Runs jest and returns `{ passed, failed, skipped, failures }`. A file that could not run, a crash, a missed
 * coverage threshold and a run without a single test are failures too.
 */
export async function runJest(name, args, { env, coverage = false }) {
  const directory = mkdtempSync(join(tmpdir(), 'belay-jest-'));
  const outputFile = join(directory, 'results.json');
  const missed = [];
  process.stdout.write(`\n${name}\n`);
  try {
    const ran = await run(process.execPath, [join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js')], {
      args: [...args, '--json', `--outputFile=${outputFile}`],
      cwd: ROOT,
      env,
      timeoutMs: JEST_TIMEOUT_MS,
      onLine: (line) => {
        if (/^Jest: .*(threshold|[Cc]overage data)/.test(line)) missed.push(line.replace('Jest: ', ''));
        if (!NOISE.test(line)) process.stdout.write(`${line}\n`);
      },
    });
    return count(name, ran, readReport(outputFile), { coverage, missed });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function count(name, ran, report, { coverage, missed }) {
  if (report === undefined) {
    const why = ran.output.includes('No tests found') ? 'no test was run' : `jest crashed (${ran.ended})`;
    return { passed: 0, failed: 1, skipped: 0, failures: [`${name}: ${why}`] };
  }
  const failures = report.testResults.flatMap((file) => describeFile(file));
  let failed = report.numFailedTests + report.numRuntimeErrorTestSuites;
  let passed = report.numPassedTests;
  if (coverage) {
    if (missed.length === 0) passed++;
    else {
      failed++;
      failures.push(...missed.map((line) => `${name}: ${line}`));
    }
  }
  if (report.numTotalTests === 0 && report.numRuntimeErrorTestSuites === 0) {
    failed++;
    failures.push(`${name}: no test was run`);
  }
  if (ran.code !== 0 && failed === 0) {
    failed++;
    failures.push(`${name}: jest failed though every test passed (${ran.ended})`);
  }
  return { passed, failed, skipped: report.numPendingTests + report.numTodoTests, failures };
}

/** One line per failed test, and per file that could not run. */
function describeFile(file) {
  const path = file.name.startsWith(ROOT) ? file.name.slice(ROOT.length + 1) : file.name;
  const failed = file.assertionResults.filter((test) => test.status === 'failed');
  if (failed.length === 0 && file.status === 'failed') return [`${path}: ${firstLine(file.message)}`];
  return failed.map((test) => `${path}: ${test.fullName}: ${firstLine(test.failureMessages[0])}`);
}

function firstLine(text = '') {
  const line =
    stripVTControlCharacters(text)
      .split('\n')
      .find((each) => each.trim() !== '' && !each.includes('●')) ?? '';
  return line.trim().slice(0, 200);
}

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
