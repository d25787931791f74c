import type { Command } from 'commander';
import type { QueuePaused, QueueRecord, RemoveRequest } from '#libs/contracts';
import { exitCodeOfWarning } from '../exit-codes';
import type { Session } from '../session/session';
import type { Style } from '../session/style';
import { cleanText } from '../text/clean-text';
import { count, formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';
import { noteWarning } from './note-warning';
import { requireNote } from './release';

interface NoteOption {
  readonly note?: string;
}

interface RemoveOptions extends NoteOption {
  readonly selector?: string;
  readonly dryRun?: boolean;
}

/** The command `queues` and its subcommands. */
export function addQueues(program: Command, bind: Bind): void {
  const queues = program
    .command('queues')
    .description('list the queues of pools: waiting and running attempts, workers, pauses')
    .action(
      bind(async (session) => {
        const { items } = await session.client.queues();
        if (session.isJson) return session.json({ items });
        if (items.length === 0) return session.note('No pool has work, and no worker serves one.');
        session.print(renderQueues(items, session.out, session.width));
        if (items.some(({ pause }) => pause !== undefined))
          session.note('A paused pool starts nothing until: belay queues resume POOL');
      }),
    );
  addHolds(queues, bind);
  queues
    .command('remove')
    .description('remove the waiting attempts of a pool: their nodes are cancelled; running agents go on')
    .argument('<pool>', 'pool')
    .option('--selector <labels>', 'only those with these labels, such as team=data,env!=prod')
    .option('--note <text>', 'why; required')
    .option('--dry-run', 'only count what would be removed')
    .action(
      bind(async (session, pool: string, options: RemoveOptions) => await remove(session, pool, options)),
    );
}

function addHolds(queues: Command, bind: Bind): void {
  queues
    .command('pause')
    .description('start nothing more of a pool; running agents go on; submits are taken and wait')
    .argument('<pool>', 'pool')
    .option('--note <text>', 'why; `belay latches` shows it')
    .action(
      bind(async (session, pool: string, options: NoteOption) => {
        const answer = await session.client.pauseQueue(pool, options);
        show(session, answer, answer.already ? 'was paused already' : 'is paused: none of its nodes starts');
        if (!session.isJson) session.note(`Resume it with: belay queues resume ${pool}`);
        noteWarning(session, answer);
        return exitCodeOfWarning(answer);
      }),
    );
  queues
    .command('resume')
    .description('resume a paused pool')
    .argument('<pool>', 'pool')
    .option('--note <text>', 'a sentence for the record')
    .action(
      bind(async (session, pool: string, options: NoteOption) => {
        const answer = await session.client.resumeQueue(pool, options);
        show(session, answer, answer.already ? 'was not paused' : 'is resumed');
        if (!session.isJson && answer.queue.latches.length > 0)
          session.note(`It is still covered by ${answer.queue.latches.join(', ')}: belay latches`);
      }),
    );
}

function show(session: Session, answer: QueuePaused, words: string): void {
  const { pool, waiting, delayed, active } = answer.queue;
  if (session.isJson) session.json(answer);
  else session.print(`pool ${cleanText(pool)} ${words}; ${waiting + delayed} wait, ${active} run`);
}

async function remove(session: Session, pool: string, options: RemoveOptions): Promise<void> {
  const { selector, dryRun = false } = options;
  const note = dryRun ? 'dry run' : requireNote(options.note, 'A removed attempt does not run.');
  const request = { note, ...(selector === undefined ? {} : { selector }) };
  const { removed, isMore } = await removeAll(session, pool, request, dryRun);
  if (session.isJson) return session.json({ pool, removed, more: isMore, dryRun });
  const least = isMore ? 'at least ' : '';
  session.print(
    dryRun
      ? `${least}${count(removed, 'attempt')} would be removed from pool ${cleanText(pool)}; nothing was removed`
      : `${count(removed, 'attempt')} removed from pool ${cleanText(pool)}: each node is cancelled with the error REMOVED`,
  );
}

/** Repeats the call until no attempt is left. A dry run is one call: the next would count the same attempts again. */
async function removeAll(
  session: Session,
  pool: string,
  request: RemoveRequest,
  dryRun: boolean,
): Promise<{ removed: number; isMore: boolean }> {
  let removed = 0;
  for (;;) {
    const answer = await session.client.removeFromQueue(pool, request, { dryRun });
    removed += answer.removed;
    if (!answer.more || dryRun) return { removed, isMore: answer.more };
  }
}

/** One row for each queue. */
export function renderQueues(queues: readonly QueueRecord[], style: Style, width: number): string {
  return renderTable({
    head: ['POOL', 'STATE', 'WAITING', 'DELAYED', 'ACTIVE', 'WORKERS', 'NOTE'],
    rows: queues.map((queue) => [
      cleanText(queue.pool),
      stateOf(queue),
      String(queue.waiting),
      String(queue.delayed),
      String(queue.active),
      String(queue.workers),
      noteOf(queue),
    ]),
    width,
    flexible: 6,
    paint: (cell, column) => (column === 1 && cell !== 'open' ? style.warn(cell) : cell),
  });
}

function stateOf({ pause, latches }: QueueRecord): string {
  if (pause !== undefined) return 'paused';
  return latches.length > 0 ? 'latched' : 'open';
}

function noteOf({ pause, latches }: QueueRecord): string {
  const paused =
    pause === undefined
      ? []
      : [
          `paused by ${cleanText(pause.by)} at ${formatTime(pause.since)}`,
          ...(pause.note === undefined ? [] : [cleanText(pause.note)]),
        ];
  return [...paused, ...latches].join(': ');
}
