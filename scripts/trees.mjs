// `npm run test:trees -- [KIND …] [--rounds N] [--quick] [--user] [--json]`: kills trees.
import { runBuilt } from './lib/run-built.mjs';

await runBuilt('test/trees');
