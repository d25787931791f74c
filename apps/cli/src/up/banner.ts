import { isByMarks, type Holding } from '../doctor/check-machine';
import type { Style } from '../session/style';
import { count } from '../text/format';

export interface BannerFacts {
  readonly url: string;
  readonly server: string;
  readonly serverUrl: string;
  /** The place of the token, never the token. */
  readonly tokenAt: string;
  readonly workers: number;
  readonly logs: string;
  /** The containment of the workers; undefined where nobody could list the workers. */
  readonly holding: readonly Holding[] | undefined;
}

/** The banner: the running services and their addresses. */
export function renderBanner(facts: BannerFacts, style: Style): string[] {
  return [
    style.strong('Belay is up.'),
    `  API      ${facts.url}`,
    `  token    ${facts.tokenAt}`,
    `  state    ${facts.server} at ${facts.serverUrl}`,
    `  workers  ${count(facts.workers, 'worker')}, logs in ${facts.logs}`,
    ...describeStops(facts.holding),
  ];
}

/** How stops are proved here: a person with the killswitch should not learn it only from a receipt. */
function describeStops(holding: readonly Holding[] | undefined): string[] {
  if (holding === undefined || holding.length === 0) return [];
  const kinds = [...new Set(holding.map(({ containment }) => containment))].join(' and ');
  return holding.some(isByMarks)
    ? [`  stops    proved by marks only (${kinds}), which an agent can strip: docs/isolation.md`]
    : [`  stops    proved by the kernel (${kinds})`];
}

/**
 * The commands that a person may type next, in another terminal. `command` is how the CLI is called there, `flags` what each
 * call needs.
 */
export function renderNextSteps(command: string, file: string, flags = ''): string[] {
  const steps = [
    [`${command} run ${file} --watch${flags}`, 'submit an execution and follow it'],
    [`${command} ps${flags}`, 'list executions'],
    [`${command} stop ID${flags}`, 'stop one, with its receipt'],
    [`${command} kill --all${flags}`, 'stop everything, with proof'],
  ] as const;
  const width = Math.max(...steps.map(([step]) => step.length));
  return [
    'In another terminal:',
    ...steps.map(([step, meaning]) => `  ${step.padEnd(width)}   ${meaning}`),
    'Ctrl-C here drains and stops.',
  ];
}
