import type { Command } from 'commander';
import type { WebhookDelivery, WebhookRecord } from '#libs/contracts';
import type { Session } from '../session/session';
import { cleanText } from '../text/clean-text';
import { formatTime } from '../text/format';
import { renderTable } from '../text/table';
import type { Bind } from './action';

/** The command `webhooks`. */
export function addWebhooks(program: Command, bind: Bind): void {
  program
    .command('webhooks')
    .description('list the endpoints that are told of events, or the newest deliveries to one')
    .argument('[name]', 'endpoint')
    .action(
      bind(async (session, name?: string) => {
        if (name === undefined) return showEndpoints(session, (await session.client.webhooks()).items);
        return showDeliveries(session, (await session.client.webhookDeliveries(name)).items);
      }),
    );
}

function showEndpoints(session: Session, items: readonly WebhookRecord[]): void {
  if (session.isJson) return session.json({ items });
  if (items.length === 0) return session.note('No endpoint is named: set BELAY_WEBHOOKS_FILE.');
  session.print(
    renderTable({
      head: ['NAME', 'TO', 'WAITING', 'FAILED', 'LAST SUCCESS', 'LAST ERROR'],
      rows: items.map(({ name, origin, waiting, failed, lastSuccessAt, lastErrorAt, lastError = '' }) => [
        cleanText(name),
        cleanText(origin),
        String(waiting),
        String(failed),
        lastSuccessAt === undefined ? '' : formatTime(lastSuccessAt),
        lastErrorAt === undefined ? '' : `${formatTime(lastErrorAt)}: ${cleanText(lastError)}`,
      ]),
      width: session.width,
      flexible: 5,
      paint: (cell, column) => (column === 3 && cell !== '0' ? session.out.warn(cell) : cell),
    }),
  );
}

function showDeliveries(session: Session, items: readonly WebhookDelivery[]): void {
  if (session.isJson) return session.json({ items });
  if (items.length === 0) return session.note('Nothing was sent to this endpoint yet.');
  session.print(
    renderTable({
      head: ['ID', 'TYPE', 'STATE', 'TRIES', 'STORED', 'ERROR'],
      rows: items.map(({ id, type, state, attempts, createdAt, error = '' }) => [
        cleanText(id),
        cleanText(type),
        state,
        String(attempts),
        formatTime(createdAt),
        cleanText(error),
      ]),
      width: session.width,
      flexible: 5,
      paint: (cell, column) => (column === 2 && cell === 'failed' ? session.out.warn(cell) : cell),
    }),
  );
}
