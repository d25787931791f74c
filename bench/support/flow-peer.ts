import { join } from 'node:path';
import { Valkey } from '#libs/valkey';
import { FlowProducer } from 'bullmq';
import { within } from '../measure';
import { endChild, startChild, type Child } from './child';
import { flowOf } from './graph';

const QUEUE = 'bench-flow';
const RUN_MS = 90_000;

export interface FlowPeerOptions {
  readonly processes: number;
  /** Of each process. */
  readonly concurrency: number;
  /** The program of each job; absent: no program runs. */
  readonly program?: string;
}

/** BullMQ on its own: a FlowProducer here, and worker processes. */
export class FlowPeer {
  private readonly valkey: Valkey;
  private readonly producer: FlowProducer;
  private readonly workers: Child[] = [];

  private constructor(url: string) {
    this.valkey = new Valkey({ url, keyPrefix: 'bare', shards: 1 });
    this.producer = new FlowProducer({ connection: this.valkey.connections.create('blocking') });
    this.producer.on('error', () => undefined);
  }

  static async start(url: string, options: FlowPeerOptions): Promise<FlowPeer> {
    const { processes, concurrency, program = '' } = options;
    const peer = new FlowPeer(url);
    try {
      const entry = join(__dirname, 'flow-worker.js');
      for (let i = 0; i < processes; i++)
        peer.workers.push(await startChild(entry, [url, QUEUE, String(concurrency), program]));
      return peer;
    } catch (error) {
      await peer.stop();
      throw error;
    }
  }

  /** Runs one flow of `count` jobs in `width` chains below a root, to the root's end. */
  async run(count: number, width: number): Promise<void> {
    const done = new Promise<void>((resolve) => {
      for (const worker of this.workers) worker.process.once('message', () => resolve());
    });
    await this.producer.add(flowOf(QUEUE, count, width));
    await within(RUN_MS, 'a flow of BullMQ', done);
    for (const worker of this.workers) worker.process.removeAllListeners('message');
  }

  async stop(): Promise<void> {
    await Promise.all(this.workers.map(endChild));
    await this.producer.close();
    this.valkey.close();
  }
}
