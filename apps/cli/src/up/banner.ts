import type { Style } from '../session/style';
import { count } from '../text/format';

export interface BannerFacts {
  readonly url: string;
  readonly server: string;
  readonly serverUrl: string;
  /** Where the token is, never the token. */
  readonly tokenAt: string;
  readonly workers: number;
  readonly logs: string;
}

/** What is up, and where. */
export function renderBanner(facts: BannerFacts, style: Style): string[] {
  return [
    style.strong('Belay is up.'),
    `  API      ${facts.url}`,
    `  token    ${facts.tokenAt}`,
    `  state    ${facts.server} at ${facts.serverUrl}`,
    `  workers  ${count(facts.workers, 'worker')}, logs in ${facts.logs}`,
  ];
}

/** What a person does next, in another terminal. `command` is how the CLI is called there. */
export function renderNextSteps(command: string, file: string): string[] {
  const steps = [
    [`${command} run ${file} --watch`, 'submit an execution and follow it'],
    [`${command} ps`, 'what runs'],
    [`${command} stop ID`, 'stop one, with its receipt'],
    [`${command} kill --all`, 'stop everything, with proof'],
  ] as const;
  const width = Math.max(...steps.map(([step]) => step.length));
  return [
    'In another terminal:',
    ...steps.map(([step, meaning]) => `  ${step.padEnd(width)}   ${meaning}`),
    'Ctrl-C here drains and stops.',
  ];
}
