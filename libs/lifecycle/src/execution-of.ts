import { NotFoundError, parseAgentId } from '#libs/contracts';

/** The execution in an agent's id. @throws NotFoundError for an id of another form */
export function executionOf(agentId: string): string {
  const parsed = parseAgentId(agentId);
  if (parsed === undefined) throw new NotFoundError('agent', agentId);
  return parsed.executionId;
}
