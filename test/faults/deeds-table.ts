import type { SeedResult } from './run-seed';

/** The acts of seeds: their bounds, counts and outcomes. */
interface Deeds {
  drawn: number;
  /** Answered as requested; for a bound: some work reached it. */
  answered: number;
  /** The act had an effect: an agent was killed or frozen, a drill passed, a bound ended something. */
  seen: number;
}

const ANSWER_IS_ALL = ['latch-team', 'latch-pool', 'pause-drain', 'retry'];
const DONE = ['killed', 'frozen'];

/** By the name of the act or of the bound, in alphabetical order. */
export function deedsTable(results: readonly SeedResult[]): Map<string, Deeds> {
  const rows = new Map<string, Deeds>();
  const add = (name: string, part: keyof Deeds, count = 1): void => {
    const row = rows.get(name) ?? { drawn: 0, answered: 0, seen: 0 };
    row[part] += count;
    rows.set(name, row);
  };
  for (const { plan, history } of results) {
    for (const step of plan.steps)
      if (step.do !== 'submit' && step.do !== 'fault')
        add(step.do === 'pause' ? `pause-${step.mode}` : step.do, 'drawn');
    for (const planned of plan.executions) {
      if (planned.byQueue) add('queue-job', 'drawn');
      if (planned.timeoutMs !== undefined) add('deadline', 'drawn');
      if (planned.maxCostUsd !== undefined) add('budget', 'drawn');
      add('node-timeout', 'drawn', planned.nodes.filter(({ timeoutMs }) => timeoutMs !== undefined).length);
    }
    for (const { name, answeredAt, receipt } of history?.orders ?? []) {
      if (answeredAt === undefined || name === 'last-stop') continue;
      add(name, 'answered');
      if (ANSWER_IS_ALL.includes(name) || receipt?.targets.some(({ outcome }) => DONE.includes(outcome)))
        add(name, 'seen');
    }
    add('drill', 'seen', history?.drills.filter(({ passed }) => passed).length);
    add('armed', 'seen', history?.armed.filter(({ armed }) => armed).length);
    for (const { accepted, job } of history?.produced ?? []) {
      if (accepted) add('queue-job', 'answered');
      if (job !== undefined && 'status' in job) add('queue-job', 'seen');
    }
    for (const { timeoutMs, maxCostUsd, costUsd = 0, reason, nodes, agents } of history?.executions ?? []) {
      if (timeoutMs !== undefined && agents.length > 0 && nodes.some(({ pool }) => pool !== undefined)) {
        add('deadline', 'answered');
        if (reason === 'timeout') add('deadline', 'seen');
      }
      if (maxCostUsd !== undefined && costUsd > 0) add('budget', 'answered');
      if (reason === 'budget_exceeded') add('budget', 'seen');
      const limited = new Set(nodes.flatMap((node) => (node.timeoutMs === undefined ? [] : node.id)));
      const mine = agents.filter(({ nodeId = '' }) => limited.has(nodeId));
      add('node-timeout', 'answered', mine.length);
      add('node-timeout', 'seen', mine.filter((agent) => agent.reason === 'timeout').length);
    }
  }
  return new Map([...rows].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** The text below the table of the faults. */
export function renderDeeds(results: readonly SeedResult[]): string {
  const line = (name: string, cells: readonly (string | number)[]): string =>
    [name.padEnd(26), ...cells.map((cell) => String(cell).padStart(10))].join(' ');
  return [
    line('asked for, or bounded by', ['drawn', 'answered', 'seen']),
    ...[...deedsTable(results)].map(([name, row]) => line(name, [row.drawn, row.answered, row.seen])),
  ].join('\n');
}
