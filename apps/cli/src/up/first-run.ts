import { join } from 'node:path';
import { createClient } from '#libs/client';
import { watchExecution } from '../progress/watch-execution';
import { reportError } from '../report-error';
import { readSpec } from '../run/read-spec';
import { loadSpecReaders } from '../run/spec-readers';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { count } from '../text/format';
import { packageRoot } from './package-root';

/** The example that `up --first-run` runs, from the root of the repository. */
export const FIRST_RUN = 'examples/first-run.yaml';

export function firstRunFile(): string {
  return join(packageRoot(), FIRST_RUN);
}

/** Submits the example and shows it to its end. A failure is reported, and Belay stays up. */
export async function showFirstRun(
  session: Session,
  url: string,
  token: string,
  asked: AbortSignal,
): Promise<void> {
  const own: Session = Object.create(session, { client: { value: createClient({ url, token }) } }) as Session;
  try {
    const { spec } = await readSpec(
      { cwd: packageRoot(), stdin: session.process.stdin },
      FIRST_RUN,
      {},
      await loadSpecReaders(),
    );
    const { execution } = await own.client.createExecution(spec);
    own.print();
    own.print(
      `First run: ${execution.id}  ${cleanText(execution.name)}, ${count(execution.nodes.total, 'node')}`,
    );
    await watchExecution(own, execution, { signal: asked, takesSignals: false });
  } catch (error) {
    if (!asked.aborted)
      reportError(session.process, error, { isJson: session.isJson, options: session.options });
  }
}
