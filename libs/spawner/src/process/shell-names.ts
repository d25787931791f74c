/**
 * Variables that a shell reads, sets or changes by itself: a start through one would alter them, or fail of their value
 * (dash ends at OPTIND=abc). Those of dash and the other POSIX shells, of bash, ksh and BusyBox: /bin/sh is one of them.
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
const SPECIAL_BEGIN = /^(BASH|COMP_|READLINE_)/;
/** A shell forgets variables whose names it could not write itself (`a.b=1`). */
const ORDINARY = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Whether a variable comes through a shell as it went in. */
export function passesThroughShell(name: string): boolean {
  return ORDINARY.test(name) && !SPECIAL.has(name) && !SPECIAL_BEGIN.test(name);
}
