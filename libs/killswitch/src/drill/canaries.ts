/**
 * A process tree that resists a kill, as a shell command. It reports with the progress message `ready` on fd 3 that it is set
 * up.
 */
export interface Canary {
  readonly name: string;
  readonly command: string;
}

/** The tree ends by itself after this, whatever happens to the drill. Seconds. */
const LIFE_S = 120;
const READY = `echo '{"type":"progress","value":"ready"}' >&3`;

/** The canaries need only a POSIX shell and `setsid` of util-linux, so a drill runs on any worker. */
export const CANARIES: readonly Canary[] = [
  // A child inherits an ignored signal, so the sleep ignores it too.
  { name: 'deaf', command: `trap '' TERM; ${READY}; sleep ${LIFE_S} & wait; sleep ${LIFE_S}` },
  {
    name: 'double-fork',
    command: `(setsid sh -c 'sleep ${LIFE_S} & exec sleep ${LIFE_S}' &) ; ${READY}; exec sleep ${LIFE_S}`,
  },
  { name: 'frozen', command: `sleep ${LIFE_S} & ${READY}; wait` },
  {
    name: 'forking',
    command: `i=0; while [ $i -lt 20 ]; do (sleep ${LIFE_S} & wait) & i=$((i+1)); done; ${READY}; wait`,
  },
];

/** The canary that is frozen before it is killed. */
export const FROZEN = 'frozen';
