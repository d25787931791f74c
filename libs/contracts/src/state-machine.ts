/**
 * The shape of every state table. A table names each state once, with the states to which it may move and the cause of each
 * move. Types, the Lua guard, the generated diagrams and the tests all read the same table (ADR 0008).
 */
export interface StateMachine<S extends string> {
  /** The entity's word from docs/architecture.md: `execution`, `agent`, `node`, `worker`, `order`, `question`. */
  readonly entity: string;
  /** The state a new record has. */
  readonly initial: S;
  /** For each state: its next states, and their causes. An empty object marks a state that no move leaves. */
  readonly transitions: Readonly<Record<S, Readonly<Partial<Record<S, string>>>>>;
  /** States in which nothing is left to do. An explicit retry, named in the table, may reopen a few. */
  readonly ended: readonly S[];
}

/** All states of a machine, in the order of its table. */
export function statesOf<S extends string>(machine: StateMachine<S>): S[] {
  return Object.keys(machine.transitions) as S[];
}

/** The next states of `from`; empty when no move leaves it. */
export function allowedFrom<S extends string>(machine: StateMachine<S>, from: S): S[] {
  return Object.keys(machine.transitions[from]) as S[];
}

/** Whether the table has the move. A self-transition is allowed only if the table names it. */
export function isAllowed<S extends string>(machine: StateMachine<S>, from: S, to: S): boolean {
  return machine.transitions[from][to] !== undefined;
}

/** Whether nothing is left to do in `state`. */
export function isEnded<S extends string>(machine: StateMachine<S>, state: S): boolean {
  return machine.ended.includes(state);
}

/** A Mermaid state diagram of the table, used by docs/state-machines.md. */
export function toMermaid<S extends string>(machine: StateMachine<S>): string {
  const lines = ['stateDiagram-v2', `  [*] --> ${machine.initial}`];
  for (const from of statesOf(machine)) {
    for (const to of allowedFrom(machine, from))
      lines.push(`  ${from} --> ${to}: ${machine.transitions[from][to]}`);
    if (allowedFrom(machine, from).length === 0) lines.push(`  ${from} --> [*]`);
  }
  return lines.join('\n');
}
