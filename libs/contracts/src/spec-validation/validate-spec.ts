import { type Problem, InvalidSpecError } from '../errors';
import { type ExecutionSpec, type NodeSpec, SPEC_LIMITS } from '../spec';
import { checkGraph } from './check-graph';
import { checkJson, checkJsonSteps, isPlainObject } from './check-json';
import { checkBudgetRules, checkNodeRules } from './check-rules';
import { normalizeAgent, normalizeExecution, normalizeNode } from './normalize-spec';
import { type Path, ProblemList } from './problem-list';
import { reportIssues } from './report-issues';
import { agentSchema, executionHeadSchema, nodeSchema } from './spec-schema';
import { NameSuggester } from './suggest-name';

/** A spec in its stored form, or every problem of it. */
export type SpecCheck =
  | { readonly ok: true; readonly spec: ExecutionSpec }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Checks a submitted execution spec and returns its stored form, with every default written out. Linear in its size: 10,000
 * nodes take tens of milliseconds. `raw` is never changed; `input` values are passed on as they are.
 *
 * @throws InvalidSpecError with every problem, the first `SPEC_LIMITS.maxProblems` listed.
 */
export function validateSpec(raw: unknown): ExecutionSpec {
  return specOrThrow(checkSpec(raw));
}

/** Like `validateSpec`, but returns the problems. */
export function checkSpec(raw: unknown): SpecCheck {
  const steps = checkSteps(raw);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/**
 * Like `validateSpec`, a few hundred nodes at a time; it awaits `turn` in between, so that a spec of 100,000 nodes does not
 * block other work of its process. @throws InvalidSpecError
 */
export async function validateSpecInTurns(raw: unknown, turn: () => Promise<void>): Promise<ExecutionSpec> {
  const steps = checkSteps(raw);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return specOrThrow(value);
    await turn();
  }
}

/** Nodes checked before other work gets a turn. */
const STEP = 500;

function* checkSteps(raw: unknown): Generator<undefined, SpecCheck> {
  const problems = new ProblemList();
  const nodes = isPlainObject(raw) ? raw['nodes'] : undefined;
  // First and alone: a spec that is far too large gets one answer, without a walk through all of it.
  if (Array.isArray(nodes) && nodes.length > SPEC_LIMITS.maxNodes) {
    const message = `must be a list of 1 to ${SPEC_LIMITS.maxNodes} nodes; it is a list of ${nodes.length}.`;
    problems.add(['nodes'], 'TOO_MANY_NODES', message);
    return { ok: false, problems: problems.toArray() };
  }
  yield* checkJsonSteps(raw, problems);
  const suggester = new NameSuggester();
  const head = executionHeadSchema.safeParse(raw);
  if (!head.success) reportIssues(head.error.issues, raw, [], problems, suggester, knownFields);
  if (isPlainObject(raw)) checkBudgetRules(raw, problems);
  const parsed = Array.isArray(nodes) ? yield* checkNodes(nodes, problems, suggester) : [];
  if (!head.success || problems.count > 0) return { ok: false, problems: problems.toArray() };
  return { ok: true, spec: normalizeExecution(head.data, parsed) };
}

/**
 * Checks a one-node execution (`POST /api/agents`): the fields of a node without `dependsOn`, plus `name`,
 * `idempotencyKey`, `maxCostUsd` and `softCostUsd`. Its id is `agent` and its name is its id where absent.
 *
 * @throws InvalidSpecError with every problem.
 */
export function validateAgentSpec(raw: unknown): ExecutionSpec {
  return specOrThrow(checkAgentSpec(raw));
}

/** Like `validateAgentSpec`, but returns the problems. */
export function checkAgentSpec(raw: unknown): SpecCheck {
  const problems = new ProblemList();
  checkJson(raw, problems);
  const agent = agentSchema.safeParse(raw);
  if (!agent.success)
    reportIssues(agent.error.issues, raw, [], problems, new NameSuggester(), (path) =>
      path.length === 0 ? AGENT_FIELDS : knownFields(path),
    );
  if (isPlainObject(raw)) checkBudgetRules(raw, problems);
  checkNodeRules(raw, [], problems);
  if (!agent.success || problems.count > 0) return { ok: false, problems: problems.toArray() };
  return { ok: true, spec: normalizeAgent(agent.data) };
}

function specOrThrow(check: SpecCheck): ExecutionSpec {
  if (!check.ok) throw new InvalidSpecError(check.problems);
  return check.spec;
}

function* checkNodes(
  nodes: readonly unknown[],
  problems: ProblemList,
  suggester: NameSuggester,
): Generator<undefined, NodeSpec[]> {
  const parsed: NodeSpec[] = [];
  // By index: this visits every place of a list with holes.
  for (let index = 0; index < nodes.length; index++) {
    if (index % STEP === STEP - 1) yield;
    const raw = nodes[index];
    const node = nodeSchema.safeParse(raw);
    const path = ['nodes', index];
    if (node.success) parsed.push(normalizeNode(node.data));
    else reportIssues(node.error.issues, raw, path, problems, suggester, knownFields);
    checkNodeRules(raw, path, problems);
  }
  yield* checkGraph(nodes, problems, suggester);
  return parsed;
}

const AGENT_FIELDS = Object.keys(agentSchema.shape);
const NODE_FIELDS = Object.keys(nodeSchema.shape);
const EXECUTION_FIELDS = Object.keys(executionHeadSchema.shape);
const INNER_FIELDS: Readonly<Record<string, readonly string[]>> = {
  run: Object.keys(nodeSchema.shape.run.shape),
  backoff: Object.keys(nodeSchema.shape.backoff.unwrap().shape),
  limits: Object.keys(nodeSchema.shape.limits.unwrap().shape),
  recovery: Object.keys(nodeSchema.shape.recovery.unwrap().shape),
};

function knownFields(path: Path): readonly string[] {
  const part = path.at(-1);
  if (part === undefined) return EXECUTION_FIELDS;
  return typeof part === 'number' ? NODE_FIELDS : INNER_FIELDS[part]!;
}
