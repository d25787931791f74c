import { type ProblemCode } from './problem-codes';
import { type ProblemList } from './problem-list';
import { showValue } from './show-value';

/** The deepest nesting of a node's `input`, and of the spec around it. */
export const MAX_DEPTH = 64;
/** The most values in one document: aliases and shared references can expand to far more than was sent. */
const MAX_VALUES = 5_000_000;
/** With the `u` flag this matches only unpaired surrogates. */
const LONE_SURROGATE = /\p{Cs}/u;
const SPECIAL_NAMES: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

/** Whether the name is special in JavaScript objects, so that its use as a key could reach a prototype. */
export const isSpecialName = (name: string): boolean => SPECIAL_NAMES.has(name);

/** Whether `value` is an object with named fields, not a list or a class instance. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // An object of another realm (a worker thread, a vm) has a prototype whose own prototype is null.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * Walks the whole submitted value and refuses parts that must never be stored: special keys, values that JSON cannot carry,
 * text that UTF-8 cannot carry, unbounded nesting and sizes. `constructor` and `prototype` are ordinary words inside an
 * `input`, where only `__proto__` is refused; elsewhere all three are.
 */
export function checkJson(raw: unknown, problems: ProblemList): void {
  // The schema reports an absent value, like any missing field.
  if (raw !== undefined) new JsonWalk(problems).visit(raw, 0, false);
}

/** The same for an execution spec, in steps of a few hundred nodes or some ten thousand values. */
export function* checkJsonSteps(raw: unknown, problems: ProblemList): Generator<undefined, void> {
  if (raw !== undefined) yield* new JsonWalk(problems).visitSpec(raw);
}

/** Nodes of one step. A step also ends after the node in which this many values were read. */
const STEP_NODES = 500;
const STEP_VALUES = 20_000;

class JsonWalk {
  private readonly path: (string | number)[] = [];
  private left = MAX_VALUES;

  constructor(private readonly problems: ProblemList) {}

  /** Goes node by node, if there is a list of nodes. */
  *visitSpec(raw: unknown): Generator<undefined, void> {
    const nodes = isPlainObject(raw) ? raw['nodes'] : undefined;
    if (!isPlainObject(raw) || !Array.isArray(nodes)) return this.visit(raw, 0, false);
    this.count();
    for (const key of Object.keys(raw)) {
      if (key !== 'nodes') this.visitField(key, raw[key], 0, false);
      else if (this.count()) {
        this.path.push(key);
        yield* this.visitNodes(nodes);
        this.path.pop();
      }
    }
  }

  private *visitNodes(nodes: readonly unknown[]): Generator<undefined, void> {
    for (let from = this.visitSome(nodes, 0); from < nodes.length; from = this.visitSome(nodes, from)) yield;
  }

  /**
   * One step, in a plain function, since V8 does not optimise a running loop of a generator. Returns the index of the next
   * node.
   */
  private visitSome(nodes: readonly unknown[], from: number): number {
    const until = this.left - STEP_VALUES;
    const end = Math.min(nodes.length, from + STEP_NODES);
    let i = from;
    while (i < end && (i === from || this.left > until)) {
      this.step(i, nodes[i], 1, false);
      i++;
    }
    return i;
  }

  /** False: there were too many values, which is reported once. */
  private count(): boolean {
    this.left -= 1;
    if (this.left === -1) this.add('TOO_LARGE', `has more than ${MAX_VALUES} values; split it up.`);
    return this.left >= 0;
  }

  visit(value: unknown, depth: number, inInput: boolean): void {
    if (!this.count()) return;
    if (typeof value === 'string') this.checkText(value);
    else if (typeof value === 'object' && value !== null) this.visitContainer(value, depth, inInput);
    else if (!isJsonScalar(value)) this.refuse(value);
  }

  private visitContainer(value: object, depth: number, inInput: boolean): void {
    if (depth >= MAX_DEPTH) {
      this.add('TOO_DEEP', `is nested more than ${MAX_DEPTH} levels deep; flatten it.`);
    } else if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) this.step(i, value[i], depth, inInput);
    } else if (isPlainObject(value)) {
      for (const key of Object.keys(value)) this.visitField(key, value[key], depth, inInput);
    } else {
      this.refuse(value);
    }
  }

  private visitField(key: string, value: unknown, depth: number, inInput: boolean): void {
    if (value === undefined) return;
    if (key === '__proto__' || (!inInput && isSpecialName(key))) {
      this.path.push(key);
      this.add('UNSAFE_KEY', 'is a key that is never accepted; rename it.');
      this.path.pop();
      return;
    }
    if (LONE_SURROGATE.test(key)) this.add('NOT_UNICODE', `has a key with ${HALF_PAIR}`);
    const entersInput = !inInput && key === 'input';
    this.step(key, value, entersInput ? -1 : depth, inInput || entersInput);
  }

  private step(part: string | number, value: unknown, depth: number, inInput: boolean): void {
    this.path.push(part);
    this.visit(value, depth + 1, inInput);
    this.path.pop();
  }

  private checkText(text: string): void {
    if (LONE_SURROGATE.test(text)) this.add('NOT_UNICODE', `contains ${HALF_PAIR}`);
  }

  private refuse(value: unknown): void {
    const seen = typeof value === 'object' ? 'an object of a class' : showValue(value);
    this.add('NOT_JSON', `must be a value JSON can carry; it is ${seen}.`);
  }

  private add(code: ProblemCode, message: string): void {
    this.problems.add(this.path, code, message);
  }
}

const HALF_PAIR = 'half of a surrogate pair, which UTF-8 cannot store; remove it.';

const isJsonScalar = (value: unknown): boolean =>
  value === null || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));
