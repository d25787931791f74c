import type { Command } from 'commander';
import { EVENT_ENTITIES, EVENT_STATES, EVENT_TYPES, type BelayEvent } from '#libs/contracts';
import { listOf } from '../arguments/parse-values';
import { EXIT, type ExitCode } from '../exit-codes';
import { abortOnSignal } from '../session/abort-on-signal';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import type { Bind } from './action';

interface EventsOptions {
  readonly type?: readonly string[];
  readonly state?: readonly string[];
  readonly selector?: string;
}

export function addEvents(program: Command, bind: Bind): void {
  program
    .command('events')
    .description('follow the events of all executions, one a line, until Ctrl-C')
    .option(
      '--type <types>',
      'only these, joined by commas: a type such as execution.failed, or execution, node, agent, ask',
      listOf([...EVENT_ENTITIES, ...EVENT_TYPES]),
    )
    .option(
      '--state <states>',
      'only changes to these states, joined by commas, such as failed,killed',
      listOf(EVENT_STATES),
    )
    .option('-l, --selector <labels>', "only of executions with these labels, such as 'team=data,env!=prod'")
    .action(bind(async (session, options: EventsOptions) => await follow(session, options)));
}

async function follow(session: Session, { type, state, selector }: EventsOptions): Promise<ExitCode> {
  const ending = abortOnSignal(session.process);
  try {
    const events = session.client.allEvents({
      ...(type === undefined ? {} : { type }),
      ...(state === undefined ? {} : { state }),
      ...(selector === undefined ? {} : { selector }),
      signal: ending.signal,
      onReconnect: ({ delayMs }) => session.note(`connection lost; next try in ${delayMs} ms`),
      onReset: () => session.note('events are missing here. List the executions with: belay ps --all'),
    });
    for await (const event of events)
      if (session.isJson) session.json(event);
      else session.print(describeEvent(event));
    return ending.wasInterrupted() ? EXIT.interrupted : EXIT.ok;
  } finally {
    ending.release();
  }
}

/** Time, type, execution, then the node or agent, the attempt and the cause where there are any. */
function describeEvent({
  at,
  type,
  executionId,
  nodeId,
  agentId,
  attempt,
  reason,
  error,
}: BelayEvent): string {
  const place = nodeId ?? agentId;
  const words = [
    formatTime(at),
    type.padEnd(20),
    executionId,
    place === undefined ? undefined : cleanText(place),
    attempt === undefined ? undefined : `attempt ${attempt}`,
    reason,
    error === undefined ? undefined : cleanText(`${error.code}: ${error.message}`),
  ];
  return words.filter((word) => word !== undefined).join('  ');
}
