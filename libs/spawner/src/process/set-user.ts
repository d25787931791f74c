import { accessSync, constants } from 'node:fs';

const PLACES = ['/usr/bin/setpriv', '/bin/setpriv', '/usr/local/bin/setpriv'];

let found: string | undefined;

/** setpriv(1) of util-linux: it becomes another user and then another program, with the same pid and descriptors. */
export function findSetpriv(): string | undefined {
  found ??= PLACES.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  return found;
}

/**
 * The words in front of a program that setpriv runs as this user: without groups, without capabilities, and none to gain by
 * `exec`.
 */
export function asUser(uid: number): string[] {
  return [
    findSetpriv() ?? PLACES[0] ?? '',
    `--reuid=${uid}`,
    `--regid=${uid}`,
    '--clear-groups',
    '--no-new-privs',
    '--inh-caps=-all',
    '--ambient-caps=-all',
    '--',
  ];
}

/** The words in front of a program that keeps its user and gets no capability of its user namespace. */
export function asUnprivileged(): string[] {
  return [findSetpriv() ?? PLACES[0] ?? '', '--inh-caps=-all', '--ambient-caps=-all', '--'];
}
