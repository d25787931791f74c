import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { PlannedExecution } from './plan-types';

const AGENT = ['../fixtures/faults/agent.sh', '../../../test/fixtures/faults/agent.sh']
  .map((path) => resolve(__dirname, path))
  .find((path) => existsSync(path)) as string;

/** The spec of a planned execution, whose agents write their record into `folder` and carry `mark`. */
export function specOf(planned: PlannedExecution, folder: string, mark: string): object {
  const { name, team, onFailure, nodes, timeoutMs, maxCostUsd } = planned;
  const record = join(folder, name);
  writeFileSync(record, '', { flag: 'a' });
  return {
    name,
    labels: { team },
    onFailure,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(maxCostUsd === undefined ? {} : { maxCostUsd }),
    nodes: nodes.map(
      ({
        id,
        dependsOn,
        maxAttempts,
        pool,
        role,
        habit,
        beats,
        code,
        usdPerBeat,
        resultBytes,
        givenBytes,
        ...node
      }) => ({
        id,
        dependsOn,
        maxAttempts,
        pool,
        labels: { role },
        ...(node.timeoutMs === undefined ? {} : { timeoutMs: node.timeoutMs }),
        backoff: { type: 'fixed', delayMs: 50 },
        run: {
          command: ['/bin/sh', AGENT],
          env: {
            RECORD: record,
            HABIT: habit,
            BEATS: String(beats),
            CODE: String(code),
            COST: usdPerBeat === undefined ? '' : usdPerBeat.toFixed(2),
            RESULT: String(resultBytes ?? ''),
            GIVEN: String(givenBytes ?? ''),
            FAULTS_MARK: mark,
          },
        },
      }),
    ),
  };
}
