import type { ExecutionRecord } from '#libs/contracts';
import { count, formatDuration } from '../text/format';

/** `frozen` for a frozen execution; otherwise its state. */
export function shownState({ state, frozen }: Pick<ExecutionRecord, 'state' | 'frozen'>): string {
  return state === 'paused' && frozen === true ? 'frozen' : state;
}

/** How an execution is paused and the time left to its deadline; undefined when it is not paused. */
export function describePause(record: ExecutionRecord): string | undefined {
  if (record.state !== 'paused') return undefined;
  const { live, frozen, deadlineLeftMs } = record;
  const agents = count(live, 'agent');
  const held =
    frozen === true ? `${agents} ${live === 1 ? 'stands' : 'stand'} still` : `${agents} may finish`;
  const how = `${frozen === true ? 'paused by freeze' : 'paused by drain'}: nothing starts, ${held}`;
  return deadlineLeftMs === undefined
    ? how
    : `${how}; ${formatDuration(deadlineLeftMs)} left to its deadline`;
}
