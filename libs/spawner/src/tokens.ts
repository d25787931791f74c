/** The token of the worker's ProcessHost. */
export const PROCESS_HOST = Symbol('belay.process-host');

/** The token of the worker's RunnerOptions. */
export const RUNNER_OPTIONS = Symbol('belay.runner-options');
