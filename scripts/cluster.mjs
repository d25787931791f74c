// `npm run test:cluster [-- ARGS]`: sets the checkout up when needed, then tests on a real Sentinel set and a real Cluster that
// fail over, on loopback. ARGS go to jest. Measurements are printed beside the tests.
import { runJest } from './lib/jest-run.mjs';
import { SetupError, setupForTests } from './lib/setup.mjs';

// The caller's own Belay settings would change the tests; BELAY_TEST_* are for the tests.
const own = Object.entries(process.env).filter(([name]) => !/^BELAY_(?!TEST_)/.test(name));
// With as many executions as the figures in docs/deployment.md.
const env = { ...Object.fromEntries(own), BELAY_TEST_CLUSTER: 'full' };

try {
  const failure = await setupForTests();
  if (failure !== undefined) throw new SetupError(failure);
  // One at a time: a set of servers, a fleet and its agents fill a small machine.
  const args = ['--selectProjects', 'cluster', '--runInBand', '--maxConcurrency=1', ...process.argv.slice(2)];
  const { passed, failed, failures } = await runJest('cluster', args, { env });
  if (failures.length > 0)
    process.stdout.write(`\nfailures:\n${failures.map((one) => `- ${one}`).join('\n')}\n`);
  process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
} catch (error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : (error?.stack ?? String(error))}\n`);
  process.exitCode = 1;
}
