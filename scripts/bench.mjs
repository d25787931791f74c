// `npm run bench -- [kill dag spawn transition worker-loss handlers] [--json] [--quick] [--least] [--count=N]`: measures.
import { runBuilt } from './lib/run-built.mjs';

await runBuilt('bench');
