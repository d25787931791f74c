/**
 * Every code of a problem of a spec, a request or a spec file, with its meaning. A test compares the table in docs/spec.md with
 * this one. Codes never change meaning.
 */
export const PROBLEM_CODES = {
  REQUIRED: 'a required field is missing',
  TYPE: 'a value of the wrong type; nothing is converted',
  RANGE: 'a number outside its bounds',
  LENGTH: 'a text or a list that is empty, too short or too long',
  PATTERN: 'a text with characters that its field does not allow',
  ONE_OF: 'a word that is not one of the field’s choices',
  UNKNOWN_FIELD: 'an unknown field',
  UNSAFE_KEY: 'a name that JavaScript objects treat specially: `__proto__`, `constructor`, `prototype`',
  NOT_JSON: 'a value JSON cannot carry: NaN, Infinity, a function, a date, …',
  NOT_UNICODE: 'a text with half of a surrogate pair, which UTF-8 cannot store',
  TOO_DEEP: 'values nested deeper than the bound',
  TOO_LARGE: 'more bytes or values than the bound',
  TOO_MANY_NODES: 'more nodes than one execution may have',
  DUPLICATE_ID: 'two nodes with one id',
  UNKNOWN_NODE: 'a dependency on a node that does not exist',
  SELF_DEPENDENCY: 'a node that depends on itself',
  DUPLICATE_DEPENDENCY: 'one dependency named twice',
  DUPLICATE_LIMIT: 'one field of a limit set twice for the same `by`',
  CYCLE: 'nodes that wait for each other',
  RESERVED_NAME: 'an environment variable whose name starts with `BELAY_`',
  SHELL_COMMAND: '`shell: true` with anything but exactly one string',
  BACKOFF_ORDER: '`backoff.maxMs` below `backoff.delayMs`',
  COST_ORDER: '`softCostUsd` above `maxCostUsd`',
  TOKENS_ORDER: '`softTokens` above `maxTokens`',
  HANDLER_RUN: '`run` with a handler and a field that is only for commands',
  UNKNOWN_HANDLER: 'a handler that none of the running workers of the node’s pool has',
  NOT_UTF8: 'bytes of a spec file that are not UTF-8',
  SYNTAX: 'text that is neither JSON nor YAML',
  DUPLICATE_KEY: 'one key twice in one YAML mapping',
  BAD_GZIP: 'a damaged `.gz` file',
  WF_FORMAT: 'a WfFormat file that cannot be converted',
  TOO_MANY_PROBLEMS: 'the last entry of a list that was cut: how many more there are',
} as const;

export type ProblemCode = keyof typeof PROBLEM_CODES;
