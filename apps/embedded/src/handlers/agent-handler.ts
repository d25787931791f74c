import 'reflect-metadata';
import type { DeclaredProcessor } from '../processors/declared-processor';
import type { AgentContext } from './agent-context';
import type { StandardSchema } from './standard-schema';

/** A provider that runs agents: one method that gets the node's input. */
export interface AgentHandlerHost<Input = unknown, Result = unknown> {
  run(input: Input, context: AgentContext): Promise<Result> | Result;
}

export interface AgentHandlerOptions<Input = unknown, Result = unknown> {
  /**
   * Checks the input before the handler runs; a mismatch fails the node with INPUT_MISMATCH. A standard schema, such as one of
   * zod 4.
   */
  readonly input?: StandardSchema<Input>;
  /** Checks the result before it is stored; a mismatch fails the node with RESULT_MISMATCH. */
  readonly result?: StandardSchema<Result>;
}

/** A handler as its class declares it. */
export interface DeclaredHandler {
  readonly name: string;
  /** The method of its provider that runs it. */
  readonly method: string;
  readonly options: AgentHandlerOptions;
  /** For a killable processor: the queue whose jobs it runs. */
  readonly processor?: DeclaredProcessor;
}

const DECLARED = Symbol.for('belay.handler');
const NAME = /^[A-Za-z0-9_.-]{1,64}$/;

/**
 * Declares a provider as the handler `name` of specs: `run: { handler: 'name' }`. Each attempt runs in a process of its own,
 * which is an agent like any other (docs/handlers.md).
 */
export function AgentHandler<Input = unknown, Result = unknown>(
  name: string,
  options: AgentHandlerOptions<Input, Result> = {},
): (host: new (...args: never[]) => AgentHandlerHost<Input, Result>) => void {
  if (!NAME.test(name))
    throw new TypeError(`@AgentHandler(${JSON.stringify(name)}): a name is 1 to 64 of A-Z a-z 0-9 _ . -`);
  return (host) => declare(host, { name, method: 'run', options });
}

export function declare(host: object, handler: DeclaredHandler): void {
  Reflect.defineMetadata(DECLARED, handler, host);
}

/** The handler that a class declares itself; a class that extends it declares its own. */
export function declaredBy(host: unknown): DeclaredHandler | undefined {
  return typeof host === 'function'
    ? (Reflect.getOwnMetadata(DECLARED, host) as DeclaredHandler | undefined)
    : undefined;
}
