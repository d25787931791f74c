/**
 * The typed HTTP client: one method per route of the orchestrator, streams that reconnect by themselves, and the server's own
 * error codes. It depends on contracts only; a program that uses Belay needs nothing else.
 *
 * ```ts const client = createClient({ url: 'http://127.0.0.1:7070', token }); const { execution } = await
 * client.createExecution(spec); for await (const event of client.events(execution.id)) console.log(event.type); ```
 */
export * from './client.types';
export { createClient } from './create-client';
export { isTerminalEvent } from './follow-events';
export { OrchestratorUnreachableError } from './unreachable';
export * from './break-glass-path';
