// `npm run bench -- [kill dag spawn transition worker-loss] [--json] [--quick]`: measures.
import { runBuilt } from './lib/run-built.mjs';

await runBuilt('bench');
