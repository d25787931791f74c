/**
 * Variables that a shell reads, sets or changes by itself: a start through a shell would alter them, or fail at their value
 * (dash ends at OPTIND=abc). They are those of dash and the other POSIX shells, of bash, ksh and BusyBox: /bin/sh is one of
 * them.
 */
const SPECIAL = new Set(
  `
    _ ENV IFS LINENO OLDPWD OPTARG OPTERR OPTIND PPID PWD SHLVL PS0 PS1 PS2 PS3 PS4 CDPATH MAIL MAILCHECK
    MAILPATH ATTIME BELAY_UPTIME TERM HISTCMD HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE HISTSIZE HISTTIMEFORMAT FCEDIT
    EUID UID EGID GID USERID GROUPS HOSTNAME HOSTTYPE MACHTYPE OSTYPE FUNCNAME RANDOM SRANDOM SECONDS
    EPOCHSECONDS EPOCHREALTIME DIRSTACK PIPESTATUS COLUMNS LINES SHELLOPTS POSIXLY_CORRECT IGNOREEOF
    ignoreeof TMOUT TIMEFORMAT REPLY COPROC MAPFILE GLOBIGNORE GLOBSORT FIGNORE CHILD_MAX EXECIGNORE INPUTRC
    FPATH PATHSEP EMACS INSIDE_EMACS auto_resume histchars KSHEGID KSHGID KSHUID KSH_VERSION PGRP EXECSHELL
  `
    .trim()
    .split(/\s+/),
);
/**
 * Each variable waits for the shim under a name with this prefix. A program that runs before the agent's tree is contained must
 * not act on a variable of a spec: the dynamic loader runs any library that LD_PRELOAD names, and libc knows more such names in
 * every release. So every variable is renamed, instead of those that are known to be dangerous.
 */
const WAITING = 'BELAY_SET_';
const SPECIAL_BEGIN = /^(BASH|COMP_|READLINE_|BELAY_SET_)/;
/** A shell drops variables whose names it could not write itself (`a.b=1`). */
const ORDINARY = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * A shell runs this once its process is contained: it gives the waiting variables their own names. `$1` and on are these, up to
 * an empty one. Values are only in the environment: every user of the machine can read arguments. A shell may complain that it
 * has no such locale.
 */
export const SET_VARIABLES =
  'while [ "$1" ]; do eval "$1=\\"\\$BELAY_SET_$1\\"; export $1; unset BELAY_SET_$1"; shift; done 2>/dev/null; shift';

/** An environment that passes through a shell. */
export interface ThroughShell {
  /** The whole environment with which the shell itself is started. */
  readonly env: Record<string, string>;
  /** For `SET_VARIABLES`. */
  readonly names: string[];
  /** `NAME=value` for env(1): variables that a shell cannot set, or would use itself. */
  readonly behind: string[];
}

/** @param raw the variables that the shell gets under their own names. */
export function throughShell(env: Readonly<Record<string, string>>, raw: ReadonlySet<string>): ThroughShell {
  const own: [string, string][] = [];
  const names: string[] = [];
  const behind: string[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (raw.has(name)) own.push([name, value]);
    else if (passesThroughShell(name)) {
      own.push([`${WAITING}${name}`, value]);
      names.push(name);
    } else behind.push(`${name}=${value}`);
  }
  return { env: Object.fromEntries(own), names: [...names, ''], behind };
}

/** Whether a shell can set a variable, and passes it on unchanged. */
function passesThroughShell(name: string): boolean {
  return ORDINARY.test(name) && !SPECIAL.has(name) && !SPECIAL_BEGIN.test(name);
}
