// `npm run bench -- [kill dag spawn transition] [--json] [--quick]`: measures.
import { runBuilt } from './lib/run-built.mjs';

await runBuilt('bench');
