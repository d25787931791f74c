import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { parseTimeout } from '../arguments/parse-duration';
import { askPeople } from '../local/ask-people';
import { PermissionServer } from '../local/permission-server';
import { packageVersion } from '../up/package-root';
import type { Bind } from './action';

export function addMcp(program: Command, bind: Bind): void {
  program
    .command('mcp')
    .description(
      'inside an agent: an MCP server on stdio whose tool approve asks people (--permission-prompt-tool)',
    )
    .option('--timeout <duration>', 'time until a question is denied (default: 1h)', parseTimeout)
    .action(
      bind(async ({ process: { env, stdin, stdout } }, { timeout }: { readonly timeout?: number }) => {
        const server = new PermissionServer({
          ask: async (asked, signal, onStored) => askPeople(asked, { env, signal, onStored }),
          send: (message) => stdout.write(`${JSON.stringify(message)}\n`),
          version: packageVersion(),
          ...(timeout === undefined ? {} : { timeoutMs: timeout }),
        });
        const under = new Set<Promise<void>>();
        for await (const line of createInterface({ input: stdin })) {
          const taken = server.take(line).finally(() => under.delete(taken));
          under.add(taken);
        }
        await Promise.all(under);
      }),
    );
}
