import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { LimitRule, LimitsRecord, LimitsRequest } from '#libs/contracts';
import { UsageError } from '../exit-codes';
import { unreadable } from '../run/read-spec';
import type { Session } from '../session/session';
import { count } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

interface NoteOption {
  readonly note?: string;
}

/** `limits show`, `set` and `clear`. */
export function addLimits(program: Command, bind: Bind): void {
  const limits = program.command('limits').description('the fleet’s limits on running agents');
  limits
    .command('show')
    .description('list the limits, with the attempts that count under them and those that wait')
    .action(bind(async (session) => show(session, await session.client.limits())));
  limits
    .command('set')
    .description('set all limits from a file, in place of those before')
    .argument('<file>', 'JSON: [{ "by": "label.tenant", "running": 3 }]; - for stdin')
    .option('--note <text>', 'why, for the audit log')
    .action(
      bind(async (session, file: string, options: NoteOption) => {
        const request = { limits: readRules(file), ...options } as LimitsRequest;
        show(session, await session.client.setLimits(request));
      }),
    );
  limits
    .command('clear')
    .description('lift all limits')
    .option('--note <text>', 'why, for the audit log')
    .action(
      bind(async (session, options: NoteOption) =>
        show(session, await session.client.setLimits({ limits: [], ...options })),
      ),
    );
}

/** The list alone, or an object with `limits`: a mistake never reads as an empty list. The orchestrator checks the content. */
function readRules(file: string): unknown {
  const text = readText(file);
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${file} cannot be read as JSON: ${(error as Error).message}`);
  }
  const rules = Array.isArray(read) ? (read as unknown) : (read as { limits?: unknown } | null)?.limits;
  if (Array.isArray(rules)) return rules;
  throw new UsageError(`${file} has no list of limits. Lift all limits with: belay limits clear`);
}

function readText(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw unreadable(file, error);
  }
}

function show(session: Session, record: LimitsRecord): void {
  if (session.isJson) return session.json(record);
  const { items, held, waiting } = record;
  if (items.length === 0) return session.note('No limits are set.');
  const bound = (n: number | undefined): string => (n === undefined ? '-' : String(n));
  session.print(
    renderTable({
      head: ['BY', 'RUNNING', 'PER MINUTE'],
      rows: items.map(({ by, running, perMinute }: LimitRule) => [by, bound(running), bound(perMinute)]),
      width: session.width,
      flexible: 0,
    }),
  );
  session.note(`${count(held, 'attempt')} under a limit, ${waiting} waiting for one`);
}
