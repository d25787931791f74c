import type { Command } from 'commander';
import { describeSettings } from '#libs/contracts';
import type { Check } from '../doctor/check';
import {
  checkContainment,
  checkDataDir,
  checkIsolation,
  checkNamespace,
  checkNative,
  checkNode,
  checkSettings,
} from '../doctor/check-machine';
import { checkOrchestrator } from '../doctor/check-orchestrator';
import { checkServer } from '../doctor/check-server';
import { EXIT, type ExitCode } from '../exit-codes';
import { readOrchestratorFile } from '../session/data-dir';
import type { Session } from '../session/session';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { renderTable } from '../text/table';
import { processEnvironment, readUpSettings } from '../up/up-settings';
import type { Bind } from './action';

export function addDoctor(program: Command, bind: Bind): void {
  program
    .command('doctor')
    .description('check this machine, the settings, the servers and the workers, and say what to do')
    .action(bind(async (session) => await examine(session)));
}

async function examine(session: Session): Promise<ExitCode> {
  const { connection } = session;
  const env = processEnvironment(
    session.process.env,
    session.options.dataDir === undefined ? {} : { dataDir: connection.dataDir.path },
  );
  const { checks: ofSettings, settings } = checkSettings(() => readUpSettings(env));
  const { checks: ofOrchestrator, workers } = await checkOrchestrator(connection, () => session.client);
  const checks = [
    checkNode(process.version),
    ...checkDataDir(connection.dataDir),
    ...ofSettings,
    await checkServer(env, connection.dataDir),
    await checkNative(settings?.native),
    ...(await checkNamespace(settings?.containment)),
    checkContainment(workers),
    checkIsolation(workers),
    ...ofOrchestrator,
  ];
  const rows = settings === undefined ? [] : describeSettings(settings);
  const isWell = checks.every(({ result }) => result !== 'fail');
  if (session.isJson) {
    session.json({ ok: isWell, checks, settings: rows });
  } else {
    for (const line of renderChecks(checks, session.out)) session.print(line);
    if (rows.length > 0) {
      session.print();
      const cells = rows.map(({ name, value, default: fallback, source }) => [
        name,
        name === 'BELAY_HTTP_PORT' ? value + besideRunning(connection, value) : value,
        source,
        fallback,
      ]);
      const head = ['SETTING', 'VALUE', 'SOURCE', 'DEFAULT'];
      session.print(renderTable({ head, rows: cells, width: session.width, flexible: 1 }));
    }
  }
  return isWell ? EXIT.ok : EXIT.failed;
}

/** A fleet that was started with another port keeps it: the setting is for the next start. */
function besideRunning({ url, urlFrom, dataDir }: Session['connection'], value: string): string {
  const running = readOrchestratorFile(dataDir);
  const port = URL.canParse(url) ? new URL(url).port : '';
  return running?.url !== url || urlFrom === '--url' || port === value
    ? ''
    : ` (the Belay that runs here has ${port})`;
}

/** `ok    node           Node v20.20.2`, with advice below it where there is any. */
export function renderChecks(checks: readonly Check[], style: Style): string[] {
  const width = Math.max(0, ...checks.map(({ name }) => name.length));
  return checks.flatMap(({ name, result, message, advice }) => [
    `${style.state(result)}${' '.repeat(6 - result.length)}${name.padEnd(width)}  ${cleanText(message)}`,
    ...(advice === undefined ? [] : [`${' '.repeat(8 + width)}→ ${cleanText(advice)}`]),
  ]);
}
