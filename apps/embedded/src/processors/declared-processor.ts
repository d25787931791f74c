import type { ProcessorOptions } from '#libs/executions';

export interface KillableProcessorOptions extends Omit<ProcessorOptions, 'queue'> {
  /** Jobs that each instance of the application runs at a time. Default 1, like BullMQ's. */
  readonly concurrency?: number;
}

/** A processor as its class declares it. */
export interface DeclaredProcessor extends KillableProcessorOptions {
  readonly queue: string;
  readonly concurrency: number;
}
