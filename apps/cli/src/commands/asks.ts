import type { Command } from 'commander';
import type { QuestionRecord } from '#libs/contracts';
import { requireId, resolveExecutionId } from '../arguments/resolve-id';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

interface AsksOptions {
  readonly execution?: string;
}

/** Questions of one request. */
const LISTED = 1_000;

/** `asks`: the list, or one question in full. */
export function addAsks(program: Command, bind: Bind): void {
  program
    .command('asks')
    .description('list the questions of agents, the next deadline first; or show one in full')
    .argument('[id]', 'question id')
    .option('--execution <id>', 'all questions of one execution, closed ones too')
    .action(
      bind(async (session, id: string | undefined, { execution }: AsksOptions) => {
        if (id === undefined) return await list(session, execution);
        const question = await session.client.ask(requireId(id, 'question'));
        if (session.isJson) return session.json(question);
        for (const line of describeQuestion(question)) session.print(line);
        if (question.state === 'open') session.note(howToAnswer(question));
      }),
    );
}

async function list(session: Session, execution: string | undefined): Promise<void> {
  const { client } = session;
  const asked = execution === undefined ? {} : { executionId: await resolveExecutionId(client, execution) };
  const page = await client.asks({ limit: LISTED, ...asked });
  const { items } = page;
  if (session.isJson) return session.json(page);
  if (items.length === 0) return session.note('No open questions.');
  session.print(
    renderTable({
      head: ['ID', 'STATE', 'DEADLINE', 'NODE', 'QUESTION', 'CHOICES'],
      rows: items.map(({ id, state, answer, deadlineAt, nodeId, question, choices }) => [
        id,
        state === 'answered' ? `answered ${cleanText(answer ?? '')}` : state,
        formatTime(deadlineAt),
        nodeId,
        cleanText(question),
        choices.map(cleanText).join(', '),
      ]),
      width: session.width,
      flexible: 4,
    }),
  );
  if (page.nextCursor !== undefined) session.note('There are more: answer these first.');
  const open = items.find(({ state }) => state === 'open');
  if (open !== undefined) session.note(howToAnswer(open));
}

/** Everything that a person should see before the answer. */
export function describeQuestion(record: QuestionRecord): string[] {
  const {
    id,
    question,
    choices,
    detail,
    state,
    answer,
    by,
    reason,
    why,
    nodeId,
    agentId,
    deadlineAt,
    hash,
    next,
  } = record;
  const end = state === 'answered' ? `answered ${cleanText(answer ?? '')}` : state;
  return [
    `${id}  ${end}`,
    `  ${cleanText(question)}`,
    `  choices   ${choices.map(cleanText).join(', ')}`,
    `  asked by  ${nodeId} (${agentId})`,
    `  deadline  ${formatTime(deadlineAt)}`,
    `  hash      ${hash}`,
    ...(by === undefined ? [] : [`  closed by ${cleanText(by)}${why === undefined ? '' : ` (${WHY[why]})`}`]),
    ...(reason === undefined ? [] : [`  reason    ${cleanText(reason)}`]),
    ...(next === undefined ? [] : [`  asked again as ${next}`]),
    ...(detail === undefined
      ? []
      : JSON.stringify(detail, null, 2)
          .split('\n')
          .map((line) => `  ${cleanText(line)}`)),
  ];
}

const WHY = {
  person: 'a person',
  deadline: 'its deadline passed',
  ended: 'its attempt ended, or its execution stops',
  changed: 'it was asked again in other words',
} as const;

const howToAnswer = ({ id }: QuestionRecord): string => `Answer with: belay answer ${id} CHOICE, or denied`;
