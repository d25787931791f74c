/** Thrown to leave a handler whose node is suspended. It is no failure: the process ends with exit code 0. */
export class Suspended extends Error {
  override readonly name = 'Suspended';

  constructor() {
    super('The node is suspended. Do not catch this error.');
  }
}
