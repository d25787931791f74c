/** A tree made to resist, as a shell command. It says that it is set up by the progress message `ready` on fd 3. */
export interface Canary {
  readonly name: string;
  readonly command: string;
}

/** Ends by itself after this, whatever becomes of the drill. Seconds. */
const LIFE_S = 120;
const READY = `echo '{"type":"progress","value":"ready"}' >&3`;

/** POSIX shell and `setsid` of util-linux alone: a drill runs on any worker. */
export const CANARIES: readonly Canary[] = [
  // An ignored signal stays ignored in what it executes: the sleep is deaf too.
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

/** The one that is frozen before it is killed. */
export const FROZEN = 'frozen';
