import { readdirSync, readFileSync } from 'node:fs';
import { isAgentId, isExecutionId, type Scope } from '#libs/contracts';

/** An agent as seen in /proc: at least one of its processes carries its name. */
export interface LocalAgent {
  readonly agentId: string;
  readonly executionId: string;
  readonly nodeId: string;
  readonly workerId: string;
  readonly pids: readonly number[];
}

/**
 * Agents of these workers with live processes in sight. An agent that cleared its environment or belongs to another user is not
 * seen. Only the worker knows pool and labels, so those scopes include every agent.
 */
export function findLocalAgents(workerIds: readonly string[], scope: Scope): LocalAgent[] {
  if (workerIds.length === 0) return [];
  const agents = new Map<string, LocalAgent>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const found = readAgent(Number(name));
    if (found === undefined || !workerIds.includes(found.workerId) || !mayCover(scope, found)) continue;
    const pids = [...(agents.get(found.agentId)?.pids ?? []), ...found.pids];
    agents.set(found.agentId, { ...found, pids });
  }
  return [...agents.values()].toSorted((a, b) => (a.agentId < b.agentId ? -1 : 1));
}

/** Undefined for a process that is no agent's, may not be read, or ended during the look. */
function readAgent(pid: number): LocalAgent | undefined {
  try {
    const lines = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    const valueOf = (name: string): string | undefined =>
      lines.find((line) => line.startsWith(`${name}=`))?.slice(name.length + 1);
    const [agentId, executionId] = [valueOf('BELAY_AGENT_ID'), valueOf('BELAY_EXECUTION_ID')];
    const [nodeId, workerId] = [valueOf('BELAY_NODE_ID'), valueOf('BELAY_WORKER_ID')];
    if (agentId === undefined || executionId === undefined || workerId === undefined) return undefined;
    if (!isAgentId(agentId) || !isExecutionId(executionId)) return undefined;
    if (/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))) return undefined;
    return { agentId, executionId, nodeId: nodeId ?? '', workerId, pids: [pid] };
  } catch {
    return undefined;
  }
}

function mayCover(scope: Scope, { agentId, executionId, workerId }: LocalAgent): boolean {
  switch (scope.type) {
    case 'agent':
      return scope.agentId === agentId;
    case 'execution':
      return scope.executionId === executionId;
    case 'worker':
      return scope.workerId === workerId;
    case 'all':
    case 'pool':
    case 'selector':
      return true;
  }
}
