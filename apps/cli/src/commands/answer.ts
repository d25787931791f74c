import type { Command } from 'commander';
import { requireId } from '../arguments/resolve-id';
import type { Bind } from './action';
import { describeQuestion } from './asks';

interface AnswerOptions {
  readonly reason?: string;
  readonly hash?: string;
}

export function addAnswer(program: Command, bind: Bind): void {
  program
    .command('answer')
    .description('answer a question of an agent; the audit log keeps its words as shown')
    .argument('<id>', 'question id')
    .argument('<choice>', 'one of its choices, or denied')
    .option('--reason <text>', 'why; the agent is told')
    .option('--hash <hash>', 'refuse a question with another hash (default: the hash of the words shown)')
    .action(
      bind(async (session, id: string, choice: string, { reason, hash }: AnswerOptions) => {
        const { client } = session;
        const asked = await client.ask(requireId(id, 'question'));
        const request = { choice, hash: hash ?? asked.hash, ...(reason === undefined ? {} : { reason }) };
        const answered = await client.answer(asked.id, request);
        if (session.isJson) return session.json(answered);
        for (const line of describeQuestion(answered)) session.print(line);
      }),
    );
}
