import { z } from 'zod';
import {
  DEFAULT_BACKOFF,
  DEFAULT_MAX_ATTEMPTS,
  DEFAULT_POOL,
  DEFAULT_PRIORITY,
  SPEC_LIMITS as LIMITS,
} from '../spec';
import {
  amount,
  environment,
  flag,
  labels,
  line,
  listOf,
  milliseconds,
  name,
  oneOf,
  osString,
  says,
  tokens,
  usd,
  wholeNumber,
} from './fields';

const duration = () => milliseconds(1, LIMITS.maxDurationMs);
const grace = () => milliseconds(0, LIMITS.maxGraceMs);

/** The end of the sentence "must be …" of a command. */
export const COMMAND_RULE = `a list of 1 to ${LIMITS.maxArguments} strings, the program first`;

const runSchema = z
  .strictObject(
    {
      command: listOf(osString('a string'), LIMITS.maxArguments, COMMAND_RULE)
        .optional()
        .describe('Program and arguments; with shell: true exactly one string, given to /bin/sh -c.'),
      env: environment()
        .default({})
        .describe(
          'Environment variables beside the allow-listed ones; names starting with BELAY_ are reserved.',
        ),
      cwd: osString('a path')
        .optional()
        .describe("Working directory; relative paths start at the worker's work directory."),
      shell: flag().default(false).describe('Give the one string of command to /bin/sh -c.'),
      handler: name('the name of a handler')
        .optional()
        .describe("Instead of a command: a handler of an application's own code, in a process of its own."),
    },
    says('an object with a command or a handler'),
  )
  .meta({ oneOf: [{ required: ['command'] }, { required: ['handler'] }] });

const backoffSchema = z.strictObject(
  {
    type: oneOf(['fixed', 'exponential'])
      .default(DEFAULT_BACKOFF.type)
      .describe('fixed: delayMs each time; exponential: twice as long each time.'),
    delayMs: milliseconds(0, LIMITS.maxDurationMs)
      .default(DEFAULT_BACKOFF.delayMs)
      .describe('Wait before the second attempt, milliseconds.'),
    maxMs: milliseconds(0, LIMITS.maxDurationMs)
      .optional()
      .describe(`Longest wait, milliseconds; without it the larger of ${DEFAULT_BACKOFF.maxMs} and delayMs.`),
    jitter: amount('a number', 0, 1)
      .default(DEFAULT_BACKOFF.jitter)
      .describe('The part of each wait that is drawn at random.'),
  },
  says('an object with type, delayMs, maxMs and jitter'),
);

const recoverySchema = z.strictObject(
  {
    auto: flag()
      .default(true)
      .describe('Try it again elsewhere when its worker was lost; false: it fails for good.'),
    withinMs: duration()
      .optional()
      .describe('Not if it was last known to run longer ago than this, milliseconds.'),
  },
  says('an object with auto and withinMs'),
);

const limitsSchema = z.strictObject(
  {
    memoryMb: wholeNumber(1, 16_777_216, ' of MiB').optional().describe('Memory of the whole tree, MiB.'),
    cpus: amount('a number of CPUs', 0.01, 4_096).optional().describe('CPU time of the whole tree, in CPUs.'),
    pids: wholeNumber(1, 4_194_304).optional().describe('Processes and threads of the whole tree.'),
  },
  says('an object with memoryMb, cpus and pids'),
);

/** The fields that a node and a one-node execution share. */
const agentFields = {
  run: runSchema.describe('The program to run, or the handler.'),
  input: z.unknown().optional().describe('Any JSON; the agent reads it on stdin as "input".'),
  pool: name('a pool name').default(DEFAULT_POOL).describe('The workers that may take it.'),
  priority: wholeNumber(1, 10).default(DEFAULT_PRIORITY).describe('10 is taken first.'),
  labels: labels().default({}).describe('Labels to select it by.'),
  delayMs: duration()
    .optional()
    .describe('Wait before the first attempt, milliseconds after its dependencies are done.'),
  maxAttempts: wholeNumber(1, LIMITS.maxAttempts)
    .default(DEFAULT_MAX_ATTEMPTS)
    .describe('Most attempts, the first included.'),
  retryOn: oneOf(['any', 'lost'])
    .default('any')
    .describe(
      'lost: only an attempt that its worker lost or handed back is tried again; a failure of its own is final.',
    ),
  backoff: backoffSchema
    .default({ type: DEFAULT_BACKOFF.type, delayMs: DEFAULT_BACKOFF.delayMs, jitter: DEFAULT_BACKOFF.jitter })
    .describe('How long to wait between attempts.'),
  timeoutMs: duration().optional().describe('Deadline of one attempt, milliseconds from its start.'),
  graceMs: grace().optional().describe('Time between the stop signal and SIGKILL, milliseconds.'),
  limits: limitsSchema
    .optional()
    .describe('Bounds on the process tree, where the containment can enforce them.'),
  allowFailure: flag()
    .default(false)
    .describe('A final failure counts as done; its dependents get no result from it.'),
  onLostContact: z
    .enum(['stop'], says('stop, as continue is not built'))
    .default('stop')
    .describe('The action when its worker loses Valkey: it ends the agent.'),
  recovery: recoverySchema.default({ auto: true }).describe('The action when its worker is lost.'),
};

/** One node of the DAG, as people write it. */
export const nodeSchema = z.strictObject(
  {
    id: name('an id').describe('Its name, unique in the execution.'),
    dependsOn: z
      .array(z.string(says('the id of another node')), says('a list of node ids'))
      .default([])
      .describe('Ids of the nodes that must be done first.'),
    ...agentFields,
  },
  says('an object with id and run'),
);

const budgetFields = {
  idempotencyKey: line()
    .optional()
    .describe('The same key and the same spec give the same execution; another spec is refused.'),
  maxCostUsd: usd().optional().describe('Budget in US dollars; passing it stops the execution.'),
  softCostUsd: usd()
    .optional()
    .describe('Budget in US dollars; passing it emits one event, `execution.soft-budget`.'),
  maxTokens: tokens()
    .optional()
    .describe('Budget in tokens of language models; passing it stops the execution.'),
  softTokens: tokens()
    .optional()
    .describe('Budget in tokens; passing it emits one event, `execution.soft-budget`.'),
};

const executionFields = {
  name: line().describe('The name for people.'),
  labels: labels().default({}).describe('Labels to select it by.'),
  ...budgetFields,
  timeoutMs: duration().optional().describe('Deadline of the whole execution, milliseconds from its start.'),
  onFailure: oneOf(['stop', 'continue'])
    .default('stop')
    .describe(
      'stop: a node that fails for good stops the rest; continue: nodes that do not depend on it still run.',
    ),
  graceMs: grace().optional().describe("Grace of nodes that set none, milliseconds; else the fleet's."),
};

const NODES_RULE = `a list of 1 to ${LIMITS.maxNodes} nodes`;

/** The whole spec, as people write it. The published JSON Schema is made from it. */
export const executionSchema = z.strictObject(
  { ...executionFields, nodes: listOf(nodeSchema, LIMITS.maxNodes, NODES_RULE).describe('The DAG.') },
  says('an object with name and nodes'),
);

/** The spec without its nodes. They are checked one by one, so that many bad nodes stay cheap. */
export const executionHeadSchema = z.strictObject(
  { ...executionFields, nodes: listOf(z.unknown(), LIMITS.maxNodes, NODES_RULE) },
  says('an object with name and nodes'),
);

/** A one-node execution: the fields of a node without dependencies, and those of an execution that apply. */
export const agentSchema = z.strictObject(
  {
    id: name('an id').default('agent').describe('Id of its only node.'),
    name: line().optional().describe('The name for people; its id where absent.'),
    ...budgetFields,
    ...agentFields,
  },
  says('an object with run'),
);

/** Read-only, so that a frozen value is accepted. */
type Given<T> = T extends readonly (infer Entry)[]
  ? readonly Given<Entry>[]
  : T extends object
    ? { readonly [Key in keyof T]: Given<T[Key]> }
    : T;

/** An execution spec as people write it; omitted fields have defaults (docs/spec.md). The schema above is its only source. */
export type ExecutionSpecInput = Given<z.input<typeof executionSchema>>;
/** The spec of a one-node execution, as people write it. */
export type AgentSpecInput = Given<z.input<typeof agentSchema>>;

export type ParsedNode = z.output<typeof nodeSchema>;
export type ParsedHead = z.output<typeof executionHeadSchema>;
export type ParsedAgent = z.output<typeof agentSchema>;
