import { InvalidSpecError, type ProblemCode } from '#libs/contracts';

/** This folder refuses a file only here: as a problem of the whole document unless a path is given. */
export function refuseFile(code: ProblemCode, message: string, path = ''): never {
  throw new InvalidSpecError([{ path, code, message }]);
}
