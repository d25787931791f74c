/** A node's command in a shell. */
export const sh = (script: string) => ({ command: [script], shell: true });
/** Settings of a fleet on many servers. */
export const ENV = { BELAY_GRACE_MS: '300', BELAY_WORKER_CONCURRENCY: '16' };
/** Two quick nodes, one after the other. */
export const SMALL = {
  name: 'small',
  nodes: [
    { id: 'a', run: sh('sleep 0.02') },
    { id: 'b', dependsOn: ['a'], run: sh('true'), maxAttempts: 3 },
  ],
};
/** Two agents that run until they are killed, one of which ignores SIGTERM; a third node waits. */
export const DEAF = {
  name: 'deaf',
  nodes: [
    { id: 'a', run: sh('trap "" TERM; (setsid sleep 600 &) ; echo ready; while :; do sleep 0.1; done') },
    { id: 'b', run: sh('echo ready; sleep 600') },
    { id: 'c', dependsOn: ['b'], run: sh('true') },
  ],
};
