import type { Problem } from '#libs/contracts';
import { cleanText } from './clean-text';

/** One line for each fault: `nodes[3].dependsOn[0]  UNKNOWN_DEPENDENCY  …`, the columns aligned. */
export function listProblems(problems: readonly Problem[]): string[] {
  const paths = problems.map(({ path }) => (path === '' ? '(the whole spec)' : cleanText(path)));
  const pathWidth = Math.max(0, ...paths.map((path) => path.length));
  const codeWidth = Math.max(0, ...problems.map(({ code }) => code.length));
  return problems.map(
    ({ code, message }, index) =>
      `${(paths[index] ?? '').padEnd(pathWidth)}  ${code.padEnd(codeWidth)}  ${cleanText(message)}`,
  );
}
