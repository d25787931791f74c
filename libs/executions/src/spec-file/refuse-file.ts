import { InvalidSpecError, type ProblemCode } from '#libs/contracts';

/** The one way this folder refuses a file: a problem of the whole document unless a path is given. */
export function refuseFile(code: ProblemCode, message: string, path = ''): never {
  throw new InvalidSpecError([{ path, code, message }]);
}
