import {
  InvalidSpecError,
  isHandlerRun,
  NameSuggester,
  type ExecutionSpec,
  type Problem,
  type WorkerRecord,
} from '#libs/contracts';

/** At most this many problems are listed. */
const MOST_PROBLEMS = 100;

export const hasHandlers = ({ nodes }: ExecutionSpec): boolean => nodes.some(({ run }) => isHandlerRun(run));

/**
 * Refuses a handler that none of the running workers of its node's pool declares. A pool without a running worker refuses
 * nothing, since its application may be starting. `workers`: the running ones.
 * @throws InvalidSpecError with every such node
 */
export function checkHandlers(spec: ExecutionSpec, workers: readonly WorkerRecord[]): void {
  const declared = new Map<string, Set<string>>();
  for (const { pools, handlers = [] } of workers)
    for (const pool of pools) declared.set(pool, new Set([...(declared.get(pool) ?? []), ...handlers]));
  const problems: Problem[] = [];
  for (const [index, { run, pool }] of spec.nodes.entries()) {
    if (!isHandlerRun(run) || problems.length === MOST_PROBLEMS) continue;
    const known = declared.get(pool);
    if (known === undefined || known.has(run.handler)) continue;
    problems.push({
      path: `nodes[${index}].run.handler`,
      code: 'UNKNOWN_HANDLER',
      message: `no running worker of the pool ${pool} has a handler ${run.handler}; ${advice(run.handler, known)}`,
    });
  }
  if (problems.length > 0) throw new InvalidSpecError(problems);
}

function advice(handler: string, known: ReadonlySet<string>): string {
  const near = new NameSuggester().nearest(handler, [...known]);
  if (near !== undefined) return `did you mean ${near}?`;
  return known.size === 0 ? 'they have none.' : `they have ${[...known].slice(0, 10).join(', ')}.`;
}
